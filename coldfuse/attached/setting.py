"""A release set into a model in memory, and its tensors read out of it again, one at a time and in pieces.

The delta is the difference from what was set: where the model is in a narrower dtype than the release, what that dtype
rounds off is no change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coldfuse.attached.access import is_sharded, put, whole, whole_shape
from coldfuse.attached.own import Own
from coldfuse.attached.ranks import agree, is_first
from coldfuse.core.dtypes import to_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.durable import writing_whole
from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import format_header
from coldfuse.tensors.tensor_file import open_tensors
from coldfuse.tensors.tensor_reader import TensorReader

Owns = Mapping[str, Own]

_PIECE = 1 << 20
"""Elements that are read or written at a time."""

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""Names that safetensors has for torch's dtypes."""


def set_shared(model: nn.Module, owns: Owns, shared: Mapping[str, str], theta: TensorReader | None) -> None:
    """Set a release's tensors into a model.

    Args:
        model: The model.
        owns: Its tensors.
        shared: The base's name of each that is set, by the model's own name.
        theta: Reads the release; None but in the first process.

    Raises:
        ColdfuseError: The release cannot be read; in all processes.
    """
    _put_all(model, owns, shared, lambda name, values: _fill_floats(values, theta, name))


def set_kept(model: nn.Module, owns: Owns, names: Iterable[str], kept: TensorReader | None) -> None:
    """Set what `keep` has written, as far as it is there, into a model; see `set_shared`."""
    _put_all(model, owns, {name: name for name in names}, lambda name, values: _fill_bytes(values, kept, name))


def _put_all(model: nn.Module, owns: Owns, names: Mapping[str, str], fill: Callable[[str, Tensor], None]) -> None:
    error: ColdfuseError | None = None

    def fill_one(name: str, values: Tensor) -> None:
        nonlocal error
        try:
            fill(name, values)
        except ColdfuseError as found:  # the others wait for the tensors that follow
            error = error or found

    for own, name in names.items():
        put(owns[own], model, lambda values, name=name: fill_one(name, values))  # type: ignore[misc]
    agree(error)


def _fill_floats(values: Tensor, theta: TensorReader | None, name: str) -> None:
    assert theta is not None  # noqa: S101 - it is the first process alone that fills
    flat = values.view(-1)
    for first in range(0, flat.numel(), _PIECE):
        count = min(_PIECE, flat.numel() - first)
        flat[first : first + count] = before_of(theta, name, first, count)


def _fill_bytes(values: Tensor, kept: TensorReader | None, name: str) -> None:
    assert kept is not None  # noqa: S101 - it is the first process alone that fills
    flat = values.view(-1)
    for first in range(0, flat.numel(), _PIECE):
        count = min(_PIECE, flat.numel() - first)
        flat[first : first + count] = torch.from_numpy(kept.raw(name, first, count)).view(values.dtype)


def keep(model: nn.Module, owns: Owns, names: Iterable[str], path: Path) -> None:
    """Write some of a model's tensors as they are to a safetensors file, whole or not at all, one after the other.

    Raises:
        ColdfuseError: The file cannot be written; in all processes.
    """
    chosen = {name: owns[name] for name in sorted(names)}
    if not is_first():
        for own in chosen.values():
            with whole(own, model):
                pass
        agree(None)
        return
    error: ColdfuseError | None = None
    specs = [(name, spec_of(own.tensor)) for name, own in chosen.items()]
    try:
        with writing_whole(path) as file:
            file.write(format_header(specs, {"format": "pt"}))
            for own in chosen.values():
                with whole(own, model) as tensor:
                    error = error or _written(file.write, tensor)
            if error:
                raise error
    except ColdfuseError as found:
        error = found
    agree(error)


def _written(write: Callable[[memoryview], None], tensor: Tensor) -> ColdfuseError | None:
    try:
        flat = tensor.reshape(-1)
        for first in range(0, flat.numel(), _PIECE):
            write(flat[first : first + _PIECE].cpu().contiguous().view(torch.uint8).numpy().data)
    except ColdfuseError as error:  # the others wait for the tensors that follow
        return error
    return None


def spec_of(tensor: Tensor) -> TensorSpec:
    """Return the dtype and shape of a tensor as it is whole. Raises `UserInputError` if no file holds its dtype."""
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise UserInputError(f"a tensor of {tensor.dtype} cannot be kept; build the model in floats")
    return TensorSpec(dtype=dtype, shape=whole_shape(tensor))


def open_kept(path: Path) -> TensorReader:
    """Open what `keep` has written."""
    return TensorReader([open_tensors(LocalFile(path))])


@dataclass(frozen=True)
class Source:
    """The elements of a model's tensors, in the first process."""

    read: Callable[[str, int, int], Tensor]
    """read(own name, first, count): some elements of a tensor, on the CPU."""


def source_of(model: nn.Module, owns: Owns, names: Iterable[str], scratch: Path) -> AbstractContextManager[Source]:
    """Return what reads a model's tensors: from where they lie, or gathered in a file where they are sharded.

    Args:
        model: The model.
        owns: Its tensors.
        names: Those that will be read, the same in all processes.
        scratch: File to gather them in.
    """
    chosen = list(names)
    if not any(is_sharded(owns[name], model) for name in chosen):
        return nullcontext(Source(lambda name, first, count: _piece(owns[name].tensor, first, count)))
    keep(model, owns, chosen, scratch)
    return _Gathered(scratch)


class _Gathered(AbstractContextManager[Source]):
    """Tensors in a file of the first process, which is removed at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = open_kept(path) if is_first() else None

    def __enter__(self) -> Source:
        def read(name: str, first: int, count: int) -> Tensor:
            assert self._reader is not None  # noqa: S101 - only the first process reads
            raw, dtype = self._reader.raw(name, first, count), self._reader.entry(name).spec.dtype
            return torch.from_numpy(raw).view(next(torch_ for torch_, named in _DTYPES.items() if named == dtype))

        return Source(read)

    def __exit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.close()
            self._path.unlink(missing_ok=True)


def _piece(tensor: Tensor, first: int, count: int) -> Tensor:
    return tensor.detach().reshape(-1)[first : first + count].cpu()


def before_of(theta: TensorReader, name: str, first: int, count: int) -> Tensor:
    """Return some elements of a release, as they are set."""
    return torch.from_numpy(to_floats(theta.raw(name, first, count), theta.entry(name).spec.dtype))


def change(now: Tensor, before: Tensor, set_as: torch.dtype, own: str) -> NDArray[np.float64]:
    """Return δ = θ_i − θ_t of some elements, where θ_t is the release as the model's dtype has held it.

    A model that was cast after the release was set holds it rounded once more.

    Raises:
        UserInputError: An element is not finite.
    """
    if not now.isfinite().all():
        raise UserInputError(
            f"tensor {own} has values that are not finite; nothing was sent, train with a lower learning rate"
        )
    delta: NDArray[np.float64] = now.double().numpy() - before.to(set_as).to(now.dtype).double().numpy()
    return delta
