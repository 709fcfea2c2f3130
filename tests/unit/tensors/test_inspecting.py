"""How far a delta moves each tensor, and which rows of embeddings, against the same worked out plainly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.durable import writing_whole
from coldfuse.tensors import inspecting
from coldfuse.tensors.changes import DenseChange, LowRankChange, SparseChange, write_changes
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.header import format_header
from coldfuse.tensors.inspecting import inspect_delta

SHAPES = {
    "embeddings.word_embeddings.weight": (50, 4), "embeddings.position_embeddings.weight": (8, 4),
    "layer.weight": (6, 4), "layer.bias": (6,), "still.weight": (3, 3), "zero.bias": (2,),
}  # fmt: skip


def write_base(folder: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    theta = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    theta["zero.bias"][:] = 0
    specs = [(name, TensorSpec(dtype="F32", shape=shape)) for name, shape in SHAPES.items()]
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    with writing_whole(folder / "model.safetensors") as file:
        file.write(format_header(specs, {"format": "pt"}))
        for name in SHAPES:
            file.write(theta[name].tobytes())
    return theta


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_what_moved_is_said_of_each_tensor(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "_AT_ONCE", at_once)
    theta = write_base(tmp_path / "base")
    base = open_checkpoint(tmp_path / "base")
    schema: Schema = base.schema
    rng = np.random.default_rng(1)
    deltas = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    deltas["embeddings.word_embeddings.weight"][[3, 17, 40]] = rng.normal(size=(3, 4))
    deltas["embeddings.position_embeddings.weight"][:5] = 1
    up, down = rng.normal(size=(6, 1)).astype(np.float32), rng.normal(size=(1, 4)).astype(np.float32)
    deltas["layer.weight"] = 0.5 * up.astype(np.float64) @ down.astype(np.float64)
    deltas["layer.bias"][[1, 4]] = [0.25, -0.5]
    deltas["zero.bias"][:] = 1
    changes = {name: DenseChange(lambda f, n, d=delta: d.reshape(-1)[f : f + n]) for name, delta in deltas.items()}
    changes["layer.weight"] = LowRankChange(up, down, 0.5)
    changes["layer.bias"] = SparseChange(np.array([1, 4]), np.array([0.25, -0.5]))
    write_changes(tmp_path / "delta", schema, changes, dtype="F32", base_digest=base.digest())
    moved = {one.name: one for one in inspect_delta(tmp_path / "delta", base, base_digest=base.digest())}
    assert set(moved) == set(SHAPES) - {"still.weight"}
    for name, one in moved.items():
        own = np.linalg.norm(theta[name].astype(np.float64))
        assert one.relative == (pytest.approx(np.linalg.norm(deltas[name]) / own, rel=1e-6) if own else np.inf)
    words = moved["embeddings.word_embeddings.weight"]
    assert (words.rows, words.rows_moved) == (50, 3)
    assert moved["embeddings.position_embeddings.weight"].rows_moved == 5
    assert moved["layer.weight"].rows is None
