"""Files that are there whole or not at all: what errors leave, and what is on the disk before what."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coldfuse.durable import UNFINISHED, make_folder, remove_whole, write_whole, writing_whole
from coldfuse.errors import UserInputError


def test_a_file_is_replaced_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_whole(path, b"old")
    with writing_whole(path) as file:
        file.write(b"ne")
        file.write(memoryview(b"w"))
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_ends_early_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, error: type) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(error), writing_whole(path) as file:  # noqa: PT012  # what is written before matters
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_all_is_on_the_disk_before_the_name_and_the_name_before_it_returns(tmp_path: Path, monkeypatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda old, new: (events.append(f"{old} > {new}"), replace(old, new)))
    path, unfinished = tmp_path / "folder" / "file", tmp_path / "folder" / f"file{UNFINISHED}"
    write_whole(path, b"x")
    assert events == [str(tmp_path), str(unfinished), f"{unfinished} > {path}", str(path.parent)]


def test_what_a_killed_writer_left_is_in_nobodys_way(tmp_path: Path) -> None:
    path, target = tmp_path / "file", tmp_path / "precious"
    target.write_bytes(b"precious")
    (tmp_path / f"file{UNFINISHED}").symlink_to(target)
    write_whole(path, b"x")
    assert (path.read_bytes(), target.read_bytes()) == (b"x", b"precious")
    (tmp_path / f"file{UNFINISHED}").write_bytes(b"half")
    remove_whole(path)
    assert os.listdir(tmp_path) == ["precious"]
    remove_whole(path)


def test_others_may_read_what_the_users_mask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(UserInputError, match=r"a file: cannot be written: Not a directory; remove that file"):
        write_whole(tmp_path / "a file" / "below", b"x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(UserInputError, match="folder: cannot be written: Is a directory"):
        write_whole(tmp_path / "folder", b"x")
    assert sorted(os.listdir(tmp_path)) == ["a file", "folder"]


def test_a_folder_that_another_process_makes_and_removes_meanwhile_is_gone_and_no_file_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(path: Path) -> None:
        raise FileExistsError(path)

    monkeypatch.setattr(Path, "mkdir", taken)
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "c").symlink_to(tmp_path / "nowhere")
    for name in ("b", "c"):
        with pytest.raises(NotADirectoryError):
            make_folder(tmp_path / name)
