"""What stays at a node of a model: the tensors that the base's files do not have, kept from one round to the next."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from coldfuse.core.schema import TensorSpec
from coldfuse.durable import writing_whole
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import format_header
from coldfuse.tensors.tensor_file import read_file_header
from coldfuse.training.checkpoint import DTYPES, bytes_of, torch_dtype
from coldfuse.training.head import read_head
from coldfuse.training.tasks import DEFAULT_TASK

TASK = "task"
"""Name under which a file of private tensors says its task."""


@dataclass(frozen=True, kw_only=True)
class PrivatePart:
    """Private tensors with what belongs to them."""

    task: str
    """Line of the task whose model they are of."""
    tensors: Mapping[str, Tensor]
    """Values by the model's own names, on the CPU."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What belongs to them, such as the labels' names."""

    def digest(self) -> str:
        """Return the digest of it all."""
        names = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in self.tensors.items()]
        digest = hashlib.sha256(json.dumps([self.task, names, dict(self.notes)], sort_keys=True).encode())
        for tensor in self.tensors.values():
            digest.update(bytes_of(tensor.contiguous()))
        return digest.hexdigest()

    def fits(self, other: Mapping[str, Tensor], *, task: str, notes: Mapping[str, str]) -> bool:
        """Tell whether they are of this task, with these labels, and of the same names and shapes as these tensors."""
        shapes = {name: tensor.shape for name, tensor in self.tensors.items()}
        same = shapes == {name: tensor.shape for name, tensor in other.items()}
        return self.task == task and dict(self.notes) == dict(notes) and bool(shapes) and same


def save_private(path: Path, part: PrivatePart) -> None:
    """Write private tensors to a file of safetensors, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in part.tensors.items()}
    specs = [
        (name, TensorSpec(dtype=DTYPES[tensor.dtype], shape=tuple(tensor.shape))) for name, tensor in tensors.items()
    ]
    with writing_whole(path) as file:
        file.write(format_header(specs, {**part.notes, TASK: part.task}))
        for tensor in tensors.values():
            file.write(bytes_of(tensor))


def read_private(path: Path) -> PrivatePart:
    """Read what `save_private` wrote.

    Raises:
        UserInputError: The file holds none.
        CodecError: It is damaged.
    """
    header = read_file_header(path)
    notes = dict(header.metadata)
    if TASK not in notes:
        return _older(path)
    tensors = {
        entry.name: torch.empty(entry.spec.shape, dtype=torch_dtype(entry.spec.dtype)) for entry in header.tensors
    }
    with LocalFile(path).open() as file:
        for entry in header.tensors:
            file.read_into(bytes_of(tensors[entry.name]), entry.start)
    return PrivatePart(task=notes.pop(TASK), tensors=tensors, notes=notes)


def _older(path: Path) -> PrivatePart:
    """Read the head of an older version, which knew one task and no other private tensors."""
    head, labels = read_head(path)
    tensors = {"head.weight": head.weight, "head.bias": head.bias}
    return PrivatePart(task=DEFAULT_TASK, tensors=tensors, notes={"labels": json.dumps(list(labels))})
