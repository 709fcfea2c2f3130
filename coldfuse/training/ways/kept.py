"""Tensors that a way or an objective keeps in the node's folder from one round to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from coldfuse.core.schema import TensorSpec
from coldfuse.durable import writing_whole
from coldfuse.errors import UserInputError
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import format_header
from coldfuse.tensors.tensor_file import read_file_header

_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
_SHA256 = "sha256"


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, float32 or int64, to a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    specs = [(name, TensorSpec(dtype=_DTYPES[t.dtype], shape=tuple(t.shape))) for name, t in own.items()]
    with writing_whole(path) as file:
        file.write(format_header(specs, {_SHA256: _digest(own)}))
        for tensor in own.values():
            file.write(_bytes_of(tensor))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote.

    Raises:
        UserInputError: The file was altered.
        CodecError: It is none.
    """
    kinds = {code: dtype for dtype, code in _DTYPES.items()}
    header = read_file_header(path)
    tensors = {e.name: torch.empty(e.spec.shape, dtype=kinds[e.spec.dtype]) for e in header.tensors}
    with LocalFile(path).open() as file:
        for entry in header.tensors:
            file.read_into(_bytes_of(tensors[entry.name]), entry.start)
    if header.metadata.get(_SHA256) != _digest(tensors):
        raise UserInputError(
            f"{path}: it was altered, its SHA-256 is not the one that it says; remove it to begin anew"
        )
    return tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{list(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)
