"""A training run on disk: one safetensors file whose header says, as JSON, what run it belongs to and how far it is.

Weights and position lie in one file that is replaced at once, so that no kill leaves new weights with an old position.
Nothing is pickled, and a file that is torn or belongs to another run counts as absent: training starts anew.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coldfuse.core.schema import TensorSpec
from coldfuse.durable import OnDamage, remove_whole, set_aside, writing_whole
from coldfuse.errors import CodecError, DigestMismatchError, UserInputError
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import format_header, read_header
from coldfuse.training.moving import moving_tensors

_LOG = logging.getLogger(__name__)
_KEY = "coldfuse.checkpoint"
_SHA256 = "sha256"
_LAYOUT = 2
FIRST_LAYOUT = 1
"""Form of the checkpoints of versions that knew one task; the tensors have the same names in it."""
DTYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8",
    torch.int8: "I8", torch.int16: "I16", torch.int32: "I32", torch.int64: "I64", torch.bool: "BOOL",
}  # fmt: skip
"""Codes of safetensors for what a model or an optimiser may hold."""
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a training run is, and the best that it has seen."""

    step: int = 0
    """Optimiser steps done. A multiple of an epoch's steps also says that the epoch was scored."""
    score_before: float
    """Score of the start on the unchanged base, on the validation examples."""
    loss_before: float | None = None
    """Mean validation loss of the same; None of an older version, which did not ask."""
    score_best: float | None = None
    """Score of the best epoch so far."""
    best_epoch: int = 0
    """Number of the epoch, from 1, with the best score; 0 before the first has been scored."""
    loss_after: float | None = None
    """Mean validation loss of the best epoch, once training is over."""
    schedule: dict[str, object] | None = None
    """State of the learning rate's schedule; None before the first step and once training is over."""
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    """What the optimiser holds besides tensors, by the names of `pack`."""
    finished: bool = False
    """True once training is over, after its last epoch or early."""


def run_identity(decisive: Mapping[str, object], *, layout: int = _LAYOUT) -> str:
    """Return the digest of everything that decides a run's outcome; a checkpoint of another identity is not ours.

    Args:
        decisive: What decides it, as JSON.
        layout: Number of the checkpoint's form: `FIRST_LAYOUT` for one of a version that had a loop of its own.
    """
    return hashlib.sha256(json.dumps({"layout": layout, **decisive}, sort_keys=True).encode()).hexdigest()


def save_checkpoint(path: Path, *, identity: str, position: Position, tensors: Mapping[str, Tensor]) -> None:
    """Replace the checkpoint at `path` at once: a kill at any instruction leaves the old one or the new one, whole.

    Args:
        path: The file.
        identity: What run it is of, see `run_identity`.
        position: How far the run is.
        tensors: Written from where they lie, one by one, so a checkpoint needs no memory of its own.
    """
    specs = [
        (name, TensorSpec(dtype=DTYPES[tensor.dtype], shape=tuple(tensor.shape))) for name, tensor in tensors.items()
    ]
    said = {"identity": identity, "position": dataclasses.asdict(position)}
    digest = _digest(said, specs)
    for tensor in tensors.values():
        digest.update(bytes_of(tensor.detach().cpu().contiguous()))
    note = json.dumps(said | {_SHA256: digest.hexdigest()}, sort_keys=True)
    with writing_whole(path) as file:
        file.write(format_header(specs, {_KEY: note}))
        for tensor in tensors.values():
            file.write(bytes_of(tensor.detach().cpu().contiguous()))


def load_checkpoint(
    path: Path, *, identity: str, older: str | None = None, on_damage: OnDamage = _LOG.warning
) -> tuple[Position, dict[str, Tensor]] | None:
    """Return position and tensors of the checkpoint at `path`, or None where there is none of this run.

    Args:
        path: The file. One that is damaged is renamed, and kept for whoever wants to look at it.
        identity: What run it must be of.
        older: What an older version called the same run.
        on_damage: Called with a sentence where it is damaged.
    """
    if not path.exists():
        return None
    try:
        return _read(path, {identity, older})
    except (CodecError, UserInputError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        set_aside(path, f"no readable checkpoint ({error})", then="training starts anew", tell=on_damage)
        return None


def _read(path: Path, identities: Collection[str | None]) -> tuple[Position, dict[str, Tensor]] | None:
    with LocalFile(path).open() as file:
        header = read_header(file.read_into, file_bytes=file.size_bytes, what=path.name)
        note: dict[str, Any] = json.loads(header.metadata[_KEY])
        tensors = {
            entry.name: torch.empty(entry.spec.shape, dtype=torch_dtype(entry.spec.dtype)) for entry in header.tensors
        }
        digest = _digest(
            {"identity": note["identity"], "position": note["position"]}, [(e.name, e.spec) for e in header.tensors]
        )
        for entry in header.tensors:
            file.read_into(bytes_of(tensors[entry.name]), entry.start)
            digest.update(bytes_of(tensors[entry.name]))
    if note.get(_SHA256, digest.hexdigest()) != digest.hexdigest():  # an older version's checkpoint says none
        raise DigestMismatchError("it was altered, its SHA-256 is not the one that it says")
    if note["identity"] not in identities:
        _LOG.info("%s belongs to other settings, data or another base: training starts anew", path)
        return None
    return _position(note["position"]), tensors


def _position(said: dict[str, Any]) -> Position:
    if "accuracy_before" not in said:
        return Position(**said)
    return Position(
        step=said["step"], score_before=said["accuracy_before"], score_best=said["accuracy_best"],
        best_epoch=said["best_epoch"], finished=said["finished"],
    )  # fmt: skip


def _digest(said: Mapping[str, object], specs: Sequence[tuple[str, TensorSpec]]) -> "hashlib._Hash":
    """Begin the digest of a checkpoint with all that it says but its tensors' bytes, in the order of the file."""
    names = [(name, spec.dtype, list(spec.shape)) for name, spec in specs]
    return hashlib.sha256(json.dumps([said, names], sort_keys=True).encode())


def discard_checkpoint(path: Path) -> None:
    """Delete the checkpoint at `path`, if there is one: the run's outcome is safe elsewhere."""
    remove_whole(path)


def set_trained_tensors(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the model's tensors of the same names."""
    tensors = moving_tensors(model)
    for name, value in values.items():
        tensors[name].copy_(value)


def pack(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, best: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return model, optimiser state and best weights as one mapping of tensors, and one of the state's numbers."""
    tensors = {f"model/{name}": tensor for name, tensor in moving_tensors(model).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    numbers: dict[str, float] = {}
    state = {} if optimizer is None else optimizer.state
    for name, parameter in model.named_parameters():
        for key, value in state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{key}/{name}"] = value
            elif value is not None:
                numbers[f"optimizer/{key}/{name}"] = value
    return tensors, numbers


def unpack(
    tensors: Mapping[str, Tensor], numbers: Mapping[str, float], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Undo `pack` for the optimiser: `saved_part` gives the rest."""
    state: dict[str, Tensor | float] = {**saved_part(tensors, "optimizer"), **{
        name.partition("/")[2]: number for name, number in numbers.items()
    }}  # fmt: skip
    for name, value in state.items():
        key, _, parameter_name = name.partition("/")
        parameter = model.get_parameter(parameter_name)
        optimizer.state[parameter][key] = value.to(parameter.device) if isinstance(value, Tensor) else value


def saved_part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """Return what lies under a part's name: `model`, `best`, `optimizer`, or what else was put beside them."""
    return {name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")}


def torch_dtype(code: str) -> torch.dtype:
    """Return the dtype of a code of safetensors. Raises `CodecError` for one that no checkpoint has."""
    if code not in _BY_NAME:
        raise CodecError(f"dtype {code} is in no checkpoint; expected one of {', '.join(_BY_NAME)}")
    return _BY_NAME[code]


def bytes_of(tensor: Tensor) -> memoryview:
    """Return the tensor's own bytes, to read from and write to."""
    raw: NDArray[np.uint8] = tensor.reshape(-1).view(torch.uint8).numpy()
    return raw.data
