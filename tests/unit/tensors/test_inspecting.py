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
