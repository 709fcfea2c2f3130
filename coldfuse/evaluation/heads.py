"""A task's private head, read from the file that a node writes: for evaluations on the machine of who owns it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coldfuse.core.dtypes import to_floats
from coldfuse.errors import UserInputError
from coldfuse.tensors.files import LocalFile, OpenFile, read_file_header
from coldfuse.tensors.header import TensorEntry
from coldfuse.training.linear import LinearProbe


def read_head(path: Path) -> tuple[LinearProbe, tuple[str, ...]]:
    """Read `head.safetensors`: the linear head, and the names of its classes."""
    if not path.is_file():
        raise UserInputError(f"{path}: no such file; expected the head.safetensors that a node keeps for its task")
    header = read_file_header(path)
    entries = {entry.name: entry for entry in header.tensors}
    labels = _labels(header.metadata.get("labels", ""))
    shapes = {name: entry.spec.shape for name, entry in entries.items()}
    if not labels or shapes.keys() != {"weight", "bias"} or shapes["bias"] != (len(labels),):
        raise UserInputError(f"{path}: expected a head that coldfuse wrote: weight, bias and the names of its classes")
    if len(shapes["weight"]) != 2 or shapes["weight"][0] != len(labels):
        raise UserInputError(f"{path}: its weight has shape {list(shapes['weight'])} for {len(labels)} classes")
    with LocalFile(path).open() as file:
        return LinearProbe(weight=_read(file, entries["weight"]), bias=_read(file, entries["bias"])), labels


def _labels(text: str) -> tuple[str, ...]:
    try:
        labels = json.loads(text)
    except ValueError:
        return ()
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def _read(file: OpenFile, entry: TensorEntry) -> Tensor:
    raw = np.empty(entry.spec.size_bytes, np.uint8)
    file.read_into(raw.data, entry.start)
    return torch.from_numpy(to_floats(raw, entry.spec.dtype).astype(np.float32)).reshape(entry.spec.shape)
