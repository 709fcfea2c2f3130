"""What the outer steps remember lies beside a model folder, and goes on from there as in a federation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fault.outer_rounds import METHOD, MODEL, play, write_deltas
from folder_fusions import fuse
from tiny_rounds import floats, make_federation, write_file

from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.outputs import Output
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.state import check_outers
from coldfuse.errors import CodecError, SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint


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


def test_a_memory_of_other_slots_is_refused(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    with pytest.raises(UserInputError, match=r"was made by nesterov, and this is fedadam; remove the folder"):
        fuse(base, deltas, tmp_path / "a", "fedadam")
    shutil.rmtree(base / "outer")
    fuse(base, deltas, tmp_path / "a", "fedadam")
    assert sorted(path.name for path in (tmp_path / "a" / "outer").iterdir()) == [
        "first_moment",
        "second_moment",
        "state.json",
    ]


def test_a_memory_names_its_model_and_the_steps_that_made_it(carrying: tuple[Path, list[Path]]) -> None:
    base, _ = carrying
    index = json.loads((base / "outer" / "state.json").read_text())
    assert index == {
        "age": 1, "slots": ["momentum"], "outers": ["nesterov"], "model": open_checkpoint(base).digest()
    }  # fmt: skip


@pytest.mark.parametrize("output", [Output(), Output(shard_bytes=300)], ids=["as the base", "other files"])
def test_a_memory_names_its_model_however_it_was_made(tmp_path: Path, small_parts: int, output: Output) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=2, method=METHOD)
    deltas, out = write_deltas(federation, 1, tmp_path), tmp_path / "out"
    digest = fuse(tmp_path / "base", deltas, out, METHOD, output=output, executor=ThreadExecutor(3))
    assert json.loads((out / "outer" / "state.json").read_text())["model"] == digest
    assert sorted(path.name for path in (out / "outer").iterdir()) == ["momentum", "state.json"]


def test_a_model_saved_over_the_one_that_the_memory_is_of_is_refused(
    carrying: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    base, _ = carrying
    shutil.copy(tmp_path / "base" / "model.safetensors", base / "model.safetensors")
    with pytest.raises(UserInputError, match=r"outer: the outer state belongs to another model: .* over it; remove"):
        fuse(base, [base], tmp_path / "out", METHOD)
    assert not (tmp_path / "out").exists()
    fuse(base, [base], tmp_path / "out", "mean")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mean then momentum", "was made by nesterov, and this is momentum; remove the folder"),
        ("mean then nesterov(lr=0.1)", None),
        ("median then nesterov then interpolate", None),
        ("mean then interpolate", None),
    ],
)
def test_a_memory_is_for_the_steps_that_made_it(carrying: tuple[Path, list[Path]], line: str, said: str | None) -> None:
    folder, recipe = open_checkpoint(carrying[0]), read_recipe(line)
    if said is None:
        check_outers(folder, recipe)
        return
    with pytest.raises(UserInputError, match=said):
        check_outers(folder, recipe)


def test_a_memory_of_an_older_version_is_refused(carrying: tuple[Path, list[Path]], tmp_path: Path) -> None:
    base, deltas = carrying
    index = base / "outer" / "state.json"
    index.write_text('{"age": 1, "slots": ["momentum"]}')
    with pytest.raises(UserInputError, match=r"does not say which steps made it, .*; remove the folder"):
        fuse(base, deltas, tmp_path / "out", METHOD)
    index.write_text('{"age": 1, "slots": ["momentum"], "outers": ["nesterov"]}')
    with pytest.raises(UserInputError, match=r"does not say which model it belongs to, .*; remove the folder"):
        fuse(base, deltas, tmp_path / "out", METHOD)
    index.write_text('{"age": 1, "slots": ["first_moment"], "outers": ["nesterov"]}')
    with pytest.raises(UserInputError, match=r"holds first_moment, and this method keeps momentum; remove the folder"):
        fuse(base, deltas, tmp_path / "out", METHOD)


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


@pytest.mark.parametrize("text", ["", '{"age": -1, "slots": ["momentum"]}'])
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
