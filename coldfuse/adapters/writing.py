# ruff: noqa: N806 - tensor names end in their shape
"""Factors as a PEFT folder, which `PeftModel.from_pretrained` loads on the base."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from coldfuse.adapters.adapter import WEIGHTS
from coldfuse.adapters.changes import Float64
from coldfuse.adapters.config import CONFIG
from coldfuse.adapters.layout import LoraLayout
from coldfuse.adapters.recompress import Factors
from coldfuse.core.dtypes import from_floats
from coldfuse.core.schema import Schema, TensorSpec
from coldfuse.errors import UserInputError
from coldfuse.tensors.header import format_header


def write_lora_adapter(
    path: Path, base_name_or_path: str, factors: Mapping[str, Factors], *, schema: Schema, layout: LoraLayout
) -> None:
    """Write a PEFT folder with these factors.

    Its scale is 1 and its rank the largest of all; smaller factors are filled up with zeros.

    Args:
        path: The folder, which may exist but holds no adapter yet.
        base_name_or_path: What PEFT is to load the base from.
        factors: Factors by the base's name of the tensor.
        schema: Dtypes and shapes of the base's tensors.
        layout: What PEFT calls their layers, and how it lays their factors out.

    Raises:
        UserInputError: There are no factors, or there is an adapter already.
    """
    if not factors:
        raise UserInputError(f"{path}: no layer has changed that can have factors, so there is no adapter to write")
    if (path / CONFIG).exists() or (path / WEIGHTS).exists():
        raise UserInputError(f"{path}: holds an adapter already; give a folder that does not")
    path.mkdir(parents=True, exist_ok=True)
    rank = max(item.b_OR.shape[1] for item in factors.values())
    tensors = dict(sorted(_tensors(factors, rank, schema, layout)))
    specs = [(name, TensorSpec(dtype=layout.dtype, shape=values.shape)) for name, values in tensors.items()]
    with open(path / WEIGHTS, "wb") as file:
        file.write(format_header(specs, {"format": "pt"}))
        for values in tensors.values():
            file.write(from_floats(np.ascontiguousarray(values).reshape(-1), layout.dtype).tobytes())
    (path / CONFIG).write_text(json.dumps(_config(base_name_or_path, factors, rank, layout), indent=2) + "\n")


def _tensors(
    factors: Mapping[str, Factors], rank: int, schema: Schema, layout: LoraLayout
) -> Iterator[tuple[str, Float64]]:
    """Name the factors as PEFT does; it transposes BA for embeddings and for inputs × outputs."""
    for name, item in factors.items():
        layer = layout.layers[name]
        fill = ((0, 0), (0, rank - item.b_OR.shape[1]))
        b_OR, a_IR = np.pad(item.b_OR, fill), np.pad(item.a_RI.T, fill)
        if layer.kind in ("embedding", "transposed"):
            b_OR, a_IR = a_IR, b_OR
        a_RI, b = np.ascontiguousarray(a_IR.T), b_OR
        if layer.kind == "convolution":
            kernel = schema[name].shape[1:]
            a_RI, b = a_RI.reshape(rank, *kernel), b_OR.reshape(*b_OR.shape, *(1 for _ in kernel[1:]))
        infix, suffix = ("embedding_", "") if layer.kind == "embedding" else ("", ".weight")
        yield f"base_model.model.{layer.module}.lora_{infix}A{suffix}", a_RI
        yield f"base_model.model.{layer.module}.lora_{infix}B{suffix}", b


def _config(base: str, factors: Mapping[str, Factors], rank: int, layout: LoraLayout) -> dict[str, object]:
    layers = [layout.layers[name] for name in factors]
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(layer.kind == "transposed" for layer in layers),
        "init_lora_weights": True,
        "target_modules": sorted(layer.module for layer in layers),
        "modules_to_save": None,
    }
