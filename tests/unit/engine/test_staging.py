"""Folders that are there for a while only: whose they are, and that nobody hears of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from folder_fusions import fuse
from tiny_rounds import make_model, write_model

from coldfuse.engine.outputs import Output
from coldfuse.engine.staging import scratch_beside, staged
from coldfuse.errors import CodecError, UserInputError

DEAD = 4194999
"""Beyond any process id."""


def test_what_is_somebody_elses_stays(tmp_path: Path) -> None:
    endings = ["fusing-abc", "fusing-", "fusing-12x", "fusing-1.5", f"fusing-{10**30}", "other-7"]
    for ending in endings:
        (tmp_path / f".out.{ending}").mkdir()
    with staged(tmp_path / "out"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*(f".out.{ending}" for ending in endings), "out"])


@pytest.mark.parametrize("name", ["out", "out[1]", "*"])
def test_what_a_killed_process_left_beside_this_result_is_removed(tmp_path: Path, name: str) -> None:
    left, others = tmp_path / f".{name}.fusing-{DEAD}", tmp_path / f".another.fusing-{DEAD}"
    left.mkdir()
    others.mkdir()
    with staged(tmp_path / name):
        assert not left.exists()
        assert others.exists()


def test_a_link_to_nothing_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    base = write_model(tmp_path / "base", make_model())
    with pytest.raises(UserInputError, match=r"out: exists already; give a folder or file that does not$"):
        fuse(base, [base], tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["base", "out"]


def test_an_error_names_the_result_and_not_where_it_was_made(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", make_model())
    with pytest.raises(UserInputError) as caught:
        fuse(base, [base], tmp_path / "out", output=Output(kind="adapter", rank=2))
    assert (
        str(caught.value)
        == f"{tmp_path / 'out'}: no layer has changed that can have factors, so there is no adapter to write"
    )


@pytest.mark.parametrize("made", ["", "adapter"])
def test_errors_of_all_kinds_name_the_result(tmp_path: Path, made: str) -> None:
    out = tmp_path / "out"
    with pytest.raises(CodecError) as caught, staged(out, made=made) as folder:
        raise CodecError(f"{folder / made / 'x'}: torn")
    assert str(caught.value) == f"{out / 'x'}: torn"
    with pytest.raises(FileNotFoundError) as missing, staged(out, made=made) as folder:
        (folder / made / "none" / "x").touch()
    assert missing.value.filename == str(out / "none" / "x")
    with pytest.raises(IsADirectoryError) as within, scratch_beside(out, "trying") as folder:
        folder.read_bytes()
    assert within.value.filename == str(out)


def test_what_came_there_meanwhile_is_named_and_kept(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"out") as caught, staged(tmp_path / "out"):
        (tmp_path / "out").write_text("mine")
    assert caught.value.filename == str(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
    assert os.listdir(tmp_path) == ["out"]
