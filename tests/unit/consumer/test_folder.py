"""The folder that a fetch writes: whose it is, and whether it is still what was written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fetching import check_whole, size_of

from coldfuse.consumer import fetch, hold
from coldfuse.errors import UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation


def test_a_folder_where_a_node_works_is_not_taken_for_a_fetched_one(federation: Federation, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / ".coldfuse" / "ada").mkdir(parents=True)
    with pytest.raises(UserInputError, match="not written by `coldfuse fetch`"):
        fetch(StoreGateway(federation), here)
    (here / "config.json").write_text("mine")
    with pytest.raises(UserInputError, match="not written by `coldfuse fetch`"):
        fetch(StoreGateway(federation), here)
    assert (here / "config.json").read_text() == "mine"


def flip(file: Path) -> None:
    with open(file, "r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last[0] ^ 1]))


def test_a_file_that_was_altered_since_is_brought_again(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "out")
    flip(tmp_path / "out" / "model-00001-of-00002.safetensors")
    fetched = fetch(StoreGateway(federation), tmp_path / "out")
    assert 0 < fetched.downloaded_bytes < size_of(fetched.manifest) / 4
    check_whole(federation, tmp_path / "out")


def test_what_no_look_at_a_file_shows_is_found_on_request(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "out")
    file = tmp_path / "out" / "model-00001-of-00002.safetensors"
    stat = file.stat()
    flip(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fetch(StoreGateway(federation), tmp_path / "out").downloaded_bytes == 0
    assert fetch(StoreGateway(federation), tmp_path / "out", verify=True).downloaded_bytes > 0
    check_whole(federation, tmp_path / "out")


def test_a_copy_of_a_folder_is_read_once(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert fetch(StoreGateway(federation), tmp_path / "copy").downloaded_bytes == 0
    file = tmp_path / "copy" / "model-00001-of-00002.safetensors"
    stat = file.stat()
    flip(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fetch(StoreGateway(federation), tmp_path / "copy").downloaded_bytes == 0  # it was not read again


@pytest.mark.parametrize("name", ["release.json", "written.json", "seen.json"])
def test_a_torn_file_of_ours_is_written_anew(federation: Federation, tmp_path: Path, name: str) -> None:
    for torn in (b"", b"\0" * 50, b"5", b"[5]", b'["../x"]'):
        fetch(StoreGateway(federation), tmp_path / "out", which=0)
        (tmp_path / "out" / ".coldfuse" / name).write_bytes(torn)
        assert fetch(StoreGateway(federation), tmp_path / "out", which=0).downloaded_bytes == 0
    fetch(StoreGateway(federation), tmp_path / "out")
    check_whole(federation, tmp_path / "out")


def test_a_folder_of_somebody_else_is_not_touched(federation: Federation, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt", Path(federation.store.url)):
        with pytest.raises(UserInputError, match="not written by `coldfuse fetch`"):
            fetch(StoreGateway(federation), out)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_one_process_at_a_time_writes_to_a_folder(federation: Federation, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    expected = pytest.raises(UserInputError, match="in use: another fetch writes to it")
    with hold(tmp_path / "out" / ".coldfuse", hint="a test"), expected:
        fetch(StoreGateway(federation), tmp_path / "out")
