"""Small steps add up: what rounding a narrow base drops is kept, and added before it is rounded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse
from tiny_rounds import Model, floats, parse_file, write_file, write_model

from coldfuse.core.dtypes import to_floats
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe
from coldfuse.engine.state import read_index
from coldfuse.errors import UserInputError
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.deltas import delta_header

ROUNDS = 15
SHAPE = (40, 12)
SMALLEST_STEP = {"BF16": 2.0**-9, "F16": 2.0**-12}
"""Half of the last place, relative to a number: smaller steps vanish when they are rounded."""


def make_base(dtype: str) -> Model:
    rng = np.random.default_rng(1)
    return {"w": floats(rng.uniform(0.01, 0.02, SHAPE), dtype), "bias": floats(rng.normal(size=9))}


def write_delta(path: Path, base: Path, change: np.ndarray) -> Path:
    """Write a delta of this base's matrix."""
    opened = open_checkpoint(base)
    head = delta_header(opened.schema, ["w"], encoding="F32", base_digest=opened.digest())
    path.write_bytes(head + change.astype(np.float32).tobytes())
    return path


def run(folder: Path, dtype: str, change: np.ndarray, *, keeps_residual: bool, rounds: int = ROUNDS) -> Path:
    """Fuse the same change round after round, each on the result of the round before."""
    base = write_model(folder / "0", make_base(dtype))
    for number in range(1, rounds + 1):
        delta = write_delta(folder / f"{number}.safetensors", base, change)
        fuse(base, [delta], folder / str(number), keeps_residual=keeps_residual and number == 1)  # then it goes on
        base = folder / str(number)
    return base


def read(folder: Path, *, exact: bool = False) -> np.ndarray:
    values = parse_file((folder / "model.safetensors").read_bytes())["w"].floats.astype(np.float64)
    if exact:
        values += parse_file((folder / "outer" / "residual" / "model.safetensors").read_bytes())["w"].floats
    return values


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_steps_that_rounding_drops_move_the_base_as_they_move_a_wide_one(tmp_path: Path, dtype: str) -> None:
    start = make_base(dtype)["w"].floats.astype(np.float64)
    change = 0.4 * SMALLEST_STEP[dtype] * start * np.random.default_rng(2).uniform(0.1, 1, SHAPE)
    change[0] = 0
    without, kept = (run(tmp_path / str(k), dtype, change, keeps_residual=k) for k in (False, True))
    wanted = start + ROUNDS * change.astype(np.float32).astype(np.float64)
    assert np.array_equal(read(without), start)
    assert np.allclose(read(kept, exact=True), wanted, rtol=2e-7, atol=0)
    assert np.array_equal(
        read(kept), to_floats(np.frombuffer(floats(read(kept, exact=True), dtype).data, np.uint8), dtype).reshape(SHAPE)
    )
    assert np.array_equal(read(kept)[0], start[0])
    moved = read(kept) != start
    assert 0.3 < moved.mean() < 1


def test_a_step_that_undoes_what_was_dropped_leaves_nothing(tmp_path: Path) -> None:
    base = write_model(tmp_path / "0", make_base("BF16"))
    for number, sign in enumerate((1, -1), start=1):
        delta = write_delta(tmp_path / f"{number}.safetensors", base, np.full(SHAPE, sign * 2.0**-20))
        fuse(base, [delta], tmp_path / str(number), keeps_residual=True)
        base = tmp_path / str(number)
    assert np.array_equal(read(base, exact=True), make_base("BF16")["w"].floats)


def test_a_wide_base_has_no_residual(tmp_path: Path) -> None:
    out = run(tmp_path, "F32", np.full(SHAPE, 1e-4), keeps_residual=True, rounds=1)
    assert not (out / "outer").exists()


def test_only_narrow_tensors_have_one(tmp_path: Path) -> None:
    out = run(tmp_path, "BF16", np.full(SHAPE, 1e-6), keeps_residual=True, rounds=1)
    assert parse_file((out / "outer" / "residual" / "model.safetensors").read_bytes()).keys() == {"w"}


def test_what_nobody_changes_keeps_its_residual(tmp_path: Path) -> None:
    out = run(tmp_path, "BF16", np.full(SHAPE, 1e-6), keeps_residual=True, rounds=1)
    opened = open_checkpoint(out)
    other = tmp_path / "other.safetensors"
    head = delta_header(opened.schema, ["bias"], encoding="F32", base_digest=opened.digest())
    other.write_bytes(head + np.ones(9, np.float32).tobytes())
    fuse(out, [other], tmp_path / "next")
    before, after = (
        (folder / "outer" / "residual" / "model.safetensors").read_bytes() for folder in (out, tmp_path / "next")
    )
    assert before == after
    assert np.array_equal(read(out), read(tmp_path / "next"))


def test_threads_and_parts_do_not_change_it(tmp_path: Path, small_parts: int) -> None:
    base = write_model(tmp_path / "base", make_base("BF16"))
    delta = write_delta(tmp_path / "delta.safetensors", base, np.full(SHAPE, 3e-6))
    request = FolderFusion(
        base=base, models=[delta], out=tmp_path / "out", recipe=read_recipe("mean"), keeps_residual=True
    )
    made = fuse_folders(request, ThreadExecutor(2))
    assert made.digest == open_checkpoint(tmp_path / "out").digest()
    exact = read(tmp_path / "out", exact=True)
    assert np.allclose(exact, make_base("BF16")["w"].floats + np.float32(3e-6), rtol=1e-7, atol=0)
    assert made.fused.num_moved == np.count_nonzero(read(tmp_path / "out") != make_base("BF16")["w"].floats)


def test_a_model_that_was_saved_over_it_does_not_get_another_ones_residual(tmp_path: Path) -> None:
    out = run(tmp_path, "BF16", np.full(SHAPE, 1e-6), keeps_residual=True, rounds=1)
    write_file(out / "model.safetensors", make_base("BF16") | {"bias": floats(np.zeros(9))})
    delta = write_delta(tmp_path / "late.safetensors", out, np.full(SHAPE, 1e-6))
    with pytest.raises(UserInputError, match="belongs to another model"):
        fuse(out, [delta], tmp_path / "next")


def test_a_residual_goes_on_under_steps_that_come_later(tmp_path: Path) -> None:
    """It is the model's; the steps' own numbers begin anew, as in a federation whose recipe is changed."""
    out = run(tmp_path, "BF16", np.full(SHAPE, 1e-6), keeps_residual=True, rounds=2)
    kept = read(out, exact=True)
    delta = write_delta(tmp_path / "late.safetensors", out, np.zeros(SHAPE))
    fuse(out, [delta], tmp_path / "next", "mean then nesterov")
    assert np.array_equal(read(tmp_path / "next", exact=True), kept)
    index = read_index(open_checkpoint(tmp_path / "next"))
    assert index is not None
    assert (index.slots, index.outers, index.age) == (("momentum", "residual"), ("nesterov",), 1)
