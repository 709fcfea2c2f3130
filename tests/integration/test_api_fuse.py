"""`coldfuse.fuse` and `coldfuse.methods`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import run_coldfuse
from tiny_rounds import floats, make_changes, make_model, parse_file, write_model

import coldfuse

MODEL = make_model()


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    models = [MODEL]
    for seed in (1, 2):
        changes = make_changes(MODEL, seed)
        models.append(MODEL | {name: floats(MODEL[name].floats + change) for name, change in changes.items()})
    return [write_model(tmp_path / str(number), model) for number, model in enumerate(models)]


def test_the_same_bytes_as_by_the_command(folders: list[Path], tmp_path: Path) -> None:
    base, *models = folders
    line = "dare(drop=0.3) then ties(density=0.3)"
    made = coldfuse.fuse(base, models, method=line, out=tmp_path / "one", workers=2)
    words = ("fuse", base, *reversed(models), "--method", line, "--out", tmp_path / "two")
    assert run_coldfuse(*words).succeed().lines[-1] == f"digest {made.digest}"
    assert repr(made).splitlines() == [f"{tmp_path / 'one'}: fused by {made.method}", f"digest {made.digest}"]
    assert made.method.startswith("dare(drop=0.3")
    assert 0 < made.moved < 1


def test_weights_sizes_and_progress(folders: list[Path], tmp_path: Path) -> None:
    base, *models = map(str, folders)
    seen: list[tuple[int, int]] = []
    coldfuse.fuse(
        base, models, method="clip then weighted-mean", weights=[3, 1], out=str(tmp_path / "out"), shard_bytes=1000,
        memory_bytes=1 << 30, progress=lambda *now: seen.append(now),
    )  # fmt: skip
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert seen[-1][0] == seen[-1][1] > 0


def test_deltas_and_adapters_are_made_and_taken(folders: list[Path], tmp_path: Path) -> None:
    base, *models = folders
    delta = coldfuse.fuse(base, models, out=tmp_path / "d.safetensors", kind="delta", progress=True)
    whole = coldfuse.fuse(base, models, out=tmp_path / "whole")
    again = coldfuse.fuse(base, [delta.path], out=tmp_path / "again")
    tensors = [parse_file((made.path / "model.safetensors").read_bytes()) for made in (whole, again)]
    np.testing.assert_allclose(tensors[0]["layer.weight"].floats, tensors[1]["layer.weight"].floats, rtol=0, atol=1e-7)
    adapter = coldfuse.fuse(base, models, out=tmp_path / "adapter", kind="adapter", rank=2)
    assert adapter.adapter_error is not None
    assert "off by" in repr(adapter)


REFUSED = {
    "a method that is not known": ({"method": "magic"}, coldfuse.UserInputError, "fusion method 'magic' is not known"),
    "a search": ({"method": "greedy-soup"}, coldfuse.UserInputError, "searches on held-out data"),
    "too few weights": ({"weights": [1.0]}, coldfuse.UserInputError, r"weights=\[1\.0\]: expected 2 numbers"),
    "no such model": ({"models": ["./nowhere"]}, coldfuse.UserInputError, "no such folder"),
    "an output that exists": ({"out": "."}, coldfuse.UserInputError, "exists already"),
    "no such statistics": ({"statistics": ["nowhere"]}, coldfuse.UserInputError, "nowhere: no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused(folders: list[Path], tmp_path: Path, name: str) -> None:
    base, *models = folders
    different, error, says = REFUSED[name]
    with pytest.raises(error, match=says):
        coldfuse.fuse(base, **{"models": models, "out": tmp_path / "out"} | different)
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_is_named(folders: list[Path]) -> None:
    with pytest.raises(coldfuse.UserInputError, match="/proc/nothing/out: cannot be created"):
        coldfuse.fuse(folders[0], folders[1:], out="/proc/nothing/out")


def test_methods_are_described() -> None:
    known = coldfuse.methods()
    assert known["mean"].kind == "combines"
    assert known["greedy-soup"].kind == "searches on held-out data"
    assert known["nesterov"].needs.endswith("keeps momentum between rounds")
    assert len(known) == len(str(known).splitlines()) == len(repr(known).splitlines())
    assert known._repr_html_().count("<tr>") == len(known) + 1
    for info in known.values():
        assert str(info).startswith(f"{info.name}: {info.summary}")
