"""Tiny models with layers, as decoders have them, in float64 so that only formulas make a difference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tiny_rounds import floats, read_model, write_model

LAYERS = 3
SHAPES = {"model.embed_tokens.weight": (6, 4)}
for _layer in range(LAYERS):
    SHAPES[f"model.layers.{_layer}.self_attn.q_proj.weight"] = (5, 4)
    SHAPES[f"model.layers.{_layer}.mlp.up_proj.weight"] = (4, 7)
SHAPES["model.norm.weight"] = (4,)

Arrays = dict[str, np.ndarray]


def make_arrays(seed: int) -> Arrays:
    """Return the base for 0, and fine-tuned models for others."""
    rng = np.random.default_rng(0)
    base = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
    rng = np.random.default_rng(seed)
    return {name: array + (0.1 * rng.normal(size=array.shape) if seed else 0) for name, array in base.items()}


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray], dtype: str = "F64") -> Path:
    return write_model(folder, {name: floats(array, dtype) for name, array in arrays.items()})


def read_arrays(folder: Path) -> Arrays:
    return {name: tensor.floats for name, tensor in read_model(folder).items()}


def place_of(tensor: str) -> float:
    """Return where in the layers a tensor lies, from 0 to 1."""
    return int(tensor.split(".")[2]) / (LAYERS - 1) if ".layers." in tensor else 0.0
