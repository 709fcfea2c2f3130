"""Tensors in memory, of torch or numpy, of which elements are read as they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.schema import TensorSpec
from coldfuse.errors import UserInputError

Floats = NDArray[np.float64]
Shape = tuple[int, ...]

_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}


def require_finite(values: Floats, name: str, what: str) -> Floats:
    """Return the values. Raises `UserInputError` if one is not finite: no aggregator would admit it."""
    if not np.isfinite(values).all():
        raise UserInputError(f"{what}: tensor {name} has values that are not finite; train with a lower learning rate")
    return values


@dataclass(frozen=True)
class InMemory:
    """A tensor in memory, of torch or numpy."""

    values: object

    @property
    def shape(self) -> Shape:
        """Size of each dimension."""
        return tuple(int(size) for size in getattr(self.values, "shape", ()))

    @property
    def spec(self) -> TensorSpec:
        """Dtype and shape, of a tensor that holds floats."""
        name = str(getattr(self.values, "dtype", "")).removeprefix("torch.")
        return TensorSpec(dtype=_DTYPES.get(name, "F64"), shape=self.shape)

    @property
    def is_float(self) -> bool:
        """True if it holds floats."""
        if isinstance(self.values, np.ndarray):
            return bool(np.issubdtype(self.values.dtype, np.floating))
        return bool(getattr(self.values, "is_floating_point", lambda: False)())

    def floats(self, first: int, count: int) -> Floats:
        """Return some elements, as float64 without loss."""
        if isinstance(self.values, np.ndarray):
            return self.values.reshape(-1)[first : first + count].astype(np.float64)
        flat = cast("_TorchTensor", self.values).detach().reshape(-1)[first : first + count]
        return flat.double().cpu().numpy()


class _TorchTensor(Protocol):
    """What is asked of a tensor of torch, which is not imported for it."""

    def detach(self) -> _TorchTensor: ...
    def reshape(self, shape: int) -> _TorchTensor: ...
    def __getitem__(self, index: slice) -> _TorchTensor: ...
    def double(self) -> _TorchTensor: ...
    def cpu(self) -> _TorchTensor: ...
    def numpy(self) -> Floats: ...


def as_tensor(name: str, value: object, what: str) -> InMemory:
    """Return a tensor of a state dict. Raises `UserInputError` if the value is none."""
    if isinstance(value, np.generic):  # what numpy makes of an array without dimensions
        return InMemory(np.asarray(value))
    if not isinstance(value, np.ndarray) and not hasattr(value, "is_floating_point"):
        raise UserInputError(f"{what}: {name} is a {type(value).__name__}, expected a tensor of torch or a numpy array")
    return InMemory(value)
