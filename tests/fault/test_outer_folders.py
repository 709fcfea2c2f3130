"""What the outer steps remember lies beside a model folder, and goes on from there as in a federation."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fault.outer_rounds import METHOD, MODEL, play, write_deltas
from folder_fusions import fuse
from tiny_rounds import floats, make_federation, small_parts, write_file

from coldfuse.errors import CodecError, SchemaMismatchError, UserInputError

__all__ = ["small_parts"]


@pytest.mark.parametrize("num_files", [1, 6])
@pytest.mark.parametrize("method", [METHOD, "ties then fedadam", "median then fedyogi"])
def test_folders_go_on_from_what_they_carry_as_a_federation_does(
    tmp_path: Path, small_parts: int, num_files: int, method: str
) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=num_files, method=method)
    base = tmp_path / "base"
    for number in (1, 2, 3):
        deltas, out = write_deltas(federation, number, tmp_path), tmp_path / f"out-{number}"
        release = play(federation, number)
        assert fuse(base, deltas, out, method) == release.model_digest
        base = out
    for name, blob in release.outer.files.items():
        assert (base / "outer" / name).read_bytes() == federation.objects.open(blob).read(0, blob.size_bytes), name


@pytest.fixture
def carrying(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A base that carries the state of one step, and deltas on it."""
    federation = make_federation(tmp_path, MODEL, method=METHOD)
    fuse(tmp_path / "base", write_deltas(federation, 1, tmp_path), tmp_path / "carrying", METHOD)
    play(federation, 1)
    return tmp_path / "carrying", write_deltas(federation, 2, tmp_path)


def test_without_its_memory_a_folder_begins_anew(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    shutil.copytree(base, tmp_path / "forgetful")
    shutil.rmtree(tmp_path / "forgetful" / "outer")
    digests = {fuse(b, deltas, tmp_path / f"{b.name}-2", METHOD) for b in (base, tmp_path / "forgetful")}
    assert len(digests) == 2
    assert '"age":2' in (tmp_path / "carrying-2" / "outer" / "state.json").read_text()
    assert '"age":1' in (tmp_path / "forgetful-2" / "outer" / "state.json").read_text()


def test_a_memory_of_other_slots_is_not_used(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    with_state = fuse(base, deltas, tmp_path / "a", "fedadam")
    shutil.rmtree(base / "outer")
    assert fuse(base, deltas, tmp_path / "b", "fedadam") == with_state
    assert sorted(path.name for path in (tmp_path / "a" / "outer").iterdir()) == [
        "first_moment",
        "second_moment",
        "state.json",
    ]


def test_a_method_without_a_memory_leaves_none_behind(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    fuse(base, deltas, tmp_path / "out", "mean")
    assert not (tmp_path / "out" / "outer").exists()


def test_a_memory_of_another_model_is_refused(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    write_file(base / "outer" / "momentum" / "model.safetensors", {"scale": floats(1.0)})
    with pytest.raises(SchemaMismatchError, match="does not have the tensors of model"):
        fuse(base, deltas, tmp_path / "out", METHOD)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"age": -1, "slots": ["momentum"]}', "[]"])
def test_a_damaged_memory_is_told(carrying: tuple[Path, list[Path]], tmp_path: Path, text: str) -> None:
    base, deltas = carrying
    (base / "outer" / "state.json").write_text(text)
    with pytest.raises(CodecError, match=r"outer/state\.json: "):
        fuse(base, deltas, tmp_path / "out", METHOD)


def test_a_memory_that_lost_a_file_is_told(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    (base / "outer" / "momentum" / "model.safetensors").unlink()
    with pytest.raises((CodecError, UserInputError), match="momentum"):
        fuse(base, deltas, tmp_path / "out", METHOD)
