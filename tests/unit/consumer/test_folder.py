"""The folder that a fetch writes: whose it is, and whether it is still what was written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import contribute, lead, make_federation, make_model, small_parts

from coldfuse.consumer import StoreSource, fetch, hold, read_fetched
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checkpoint import open_checkpoint

__all__ = ["small_parts"]
MODEL = make_model()


@pytest.fixture(scope="module")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Federation]:
    """Make a federation that is only read, or take the one that was made for another test."""

    @cache
    def make() -> Federation:
        federation = make_federation(tmp_path_factory.mktemp("federation"), MODEL, num_files=2)
        lead(federation)
        for name in ("ada", "ben"):
            changes = {"layer.bias": np.full(8, 0.5, np.float32), "scale": np.float32(ord(name[0])).reshape(())}
            contribute(federation, name, changes)
        lead(federation)
        return federation

    return make


@pytest.fixture
def federation(make_once: Callable[[], Federation], small_parts: int) -> Federation:
    """Return one with releases 0 and 1, which differ in few parts."""
    return make_once()


def size_of(manifest: ReleaseManifest) -> int:
    return sum(blob.size_bytes for blob in manifest.files.values())


def check_whole(federation: Federation, out: Path, number: int) -> None:
    assert open_checkpoint(out).digest() == federation.release(number).model_digest
    assert read_fetched(out) == federation.release(number)
    files = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert {file for file in files if not file.startswith(".coldfuse")} == set(federation.release(number).files)


def test_a_folder_where_a_node_works_is_not_taken_for_a_fetched_one(federation: Federation, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / ".coldfuse" / "ada").mkdir(parents=True)
    with pytest.raises(UserInputError, match="not written by `coldfuse fetch`"):
        fetch(StoreSource(federation), here)
    (here / "config.json").write_text("mine")
    with pytest.raises(UserInputError, match="not written by `coldfuse fetch`"):
        fetch(StoreSource(federation), here)
    assert (here / "config.json").read_text() == "mine"


def flip(file: Path) -> None:
    with open(file, "r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read(1)
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last[0] ^ 1]))


def test_a_file_that_was_altered_since_is_brought_again(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreSource(federation), tmp_path / "out")
    flip(tmp_path / "out" / "model-00001-of-00002.safetensors")
    fetched = fetch(StoreSource(federation), tmp_path / "out")
    assert 0 < fetched.downloaded_bytes < size_of(fetched.manifest) / 4
    check_whole(federation, tmp_path / "out", 1)


def test_what_no_look_at_a_file_shows_is_found_on_request(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreSource(federation), tmp_path / "out")
    file = tmp_path / "out" / "model-00001-of-00002.safetensors"
    stat = file.stat()
    flip(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fetch(StoreSource(federation), tmp_path / "out").downloaded_bytes == 0
    assert fetch(StoreSource(federation), tmp_path / "out", verify=True).downloaded_bytes > 0
    check_whole(federation, tmp_path / "out", 1)


def test_a_copy_of_a_folder_is_read_once(federation: Federation, tmp_path: Path, monkeypatch) -> None:
    fetch(StoreSource(federation), tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert fetch(StoreSource(federation), tmp_path / "copy").downloaded_bytes == 0
    monkeypatch.setattr("coldfuse.consumer.folder.read_if_there", lambda *_: pytest.fail("read again"))
    assert fetch(StoreSource(federation), tmp_path / "copy").downloaded_bytes == 0


@pytest.mark.parametrize("name", ["release.json", "written.json", "seen.json"])
@pytest.mark.parametrize("torn", [b"", b"{", b"\0" * 50, b"5", b"[5]", b'["../x"]'])
def test_a_torn_file_of_ours_is_written_anew(federation: Federation, tmp_path: Path, name: str, torn: bytes) -> None:
    fetch(StoreSource(federation), tmp_path / "out", which=0)
    (tmp_path / "out" / ".coldfuse" / name).write_bytes(torn)
    assert fetch(StoreSource(federation), tmp_path / "out", which=0).downloaded_bytes == 0
    fetch(StoreSource(federation), tmp_path / "out")
    check_whole(federation, tmp_path / "out", 1)


def test_what_is_renamed_is_on_the_disk_first(federation: Federation, tmp_path: Path, monkeypatch) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (events.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append(f"> {old}"), rename(old, new)))
    fetch(StoreSource(federation), tmp_path / "out")
    for name in ("release.json", "written.json"):
        part = str(tmp_path / "out" / ".coldfuse" / f"{name}.part")
        assert events.index(part) < events.index(f"> {part}")


def test_a_folder_of_somebody_else_is_not_touched(federation: Federation, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt", Path(federation.store.url)):
        with pytest.raises(UserInputError, match="not written by `coldfuse fetch`"):
            fetch(StoreSource(federation), out)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_one_process_at_a_time_writes_to_a_folder(federation: Federation, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    expected = pytest.raises(UserInputError, match="in use: another fetch writes to it")
    with hold(tmp_path / "out" / ".coldfuse", hint="a test"), expected:
        fetch(StoreSource(federation), tmp_path / "out")
