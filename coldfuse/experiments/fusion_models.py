"""What the experiment keeps on disk: accuracies, and model folders, which are the base's files with other numbers.

A head that all contributors share lies in the model's own file as `head.weight` and `head.bias`. So a fusion method
treats it as one more linear layer, and needs to know nothing of heads.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from coldfuse.core.dtypes import Raw, from_floats, to_floats
from coldfuse.core.model_files import INDEX
from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import TensorEntry, format_header
from coldfuse.tensors.tensor_file import read_file_header
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.training.head import LinearHead

WEIGHTS = "model.safetensors"
HEAD_NAMES = ("head.weight", "head.bias")
"""Names of a fused head's tensors among the model's."""

Accuracies = dict[str, float]
"""Accuracies by name."""


class Kept:
    """A file of accuracies; what is missing is computed, and written at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Accuracies] = json.loads(path.read_bytes()) if path.exists() else {}

    def get(self, key: str, compute: Callable[[], Accuracies]) -> Accuracies:
        """Return what is kept under the key, or compute it."""
        if key not in self._known:
            self._known[key] = compute()
            staging = self._path.with_suffix(f".part-{os.getpid()}")
            staging.write_text(json.dumps(self._known, indent=1))
            os.replace(staging, self._path)
        return self._known[key]


def write_model(folder: Path, base: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the base with these float32 tensors in place of its own, or beside them, as one file of weights."""
    source = open_checkpoint(base)
    reader = TensorReader(source.files.values())
    shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
    folder.mkdir(parents=True)
    for file in source.plain:
        if file != INDEX:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(base / file, folder / file)
    added = {name: TensorSpec(dtype="F32", shape=tuple(tensor.shape)) for name, tensor in tensors.items()}
    specs = sorted((dict(source.schema) | added).items())
    with open(folder / WEIGHTS, "wb") as out:
        out.write(format_header(specs, {"format": "pt"}))
        for name, _ in specs:
            if name in tensors:
                flat = tensors[name].detach().float().contiguous().numpy().reshape(-1)
                out.write(from_floats(flat, "F32").data)
            else:
                out.write(reader.raw(name).data)


def publish(staging: Path, folder: Path) -> None:
    """Give a finished folder its name, so that a killed run leaves nothing half-made under it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(staging, folder)


def read_model(folder: Path) -> dict[str, Tensor]:
    """Return the tensors that fusion changes, as float32."""
    files = open_checkpoint(folder).headers
    return {name: tensor for file in files for name, tensor in read_tensors(folder / file).items()}


def read_head(path: Path) -> LinearHead:
    """Return the head in a file: a contributor's own, or that of a model whose head is fused."""
    tensors = read_tensors(path)
    weight, bias = (tensors.get(name, tensors.get(name.removeprefix("head."))) for name in HEAD_NAMES)
    if weight is None or bias is None:
        raise ValueError(f"{path} holds no head")
    return LinearHead(weight=weight, bias=bias)


def head_tensors(head: LinearHead) -> dict[str, Tensor]:
    """Name a head's tensors as they lie among a model's."""
    return dict(zip(HEAD_NAMES, (head.weight, head.bias), strict=True))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return a file's tensors that fusion changes, as float32."""
    entries = [entry for entry in read_file_header(path).tensors if entry.spec.is_fused]
    return {
        entry.name: torch.from_numpy(np.array(to_floats(_read(path, entry), entry.spec.dtype), np.float32)).reshape(
            entry.spec.shape
        )
        for entry in entries
    }


def _read(path: Path, entry: TensorEntry) -> Raw:
    raw = np.empty(entry.spec.size_bytes, np.uint8)
    with LocalFile(path).open() as local:
        local.read_into(raw.data, entry.start)
    return raw
