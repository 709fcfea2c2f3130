"""The forms in which a delta holds a tensor's change, and the tensors that it stores for each.

    dense      δ itself, under the tensor's own name
    low-rank   "<name>|up" (O × r) and "<name>|down" (r × I); an element is scale · Σ_k up[o, k] · down[k, i], added in
               float64 in the order of k. The tensor is seen as a matrix: all dimensions after the first are one, so a
               convolution is O × I·height·width, and GPT-2's Conv1D is as it is stored, inputs × outputs

Factors are of the delta's dtype. They are taken only where they are smaller than the tensor, so that what they expand
to is never out of proportion to the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from coldfuse.core.schema import TensorSpec
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.products import as_matrix

Encoding = Literal["F32", "BF16", "F16"]
"""Dtype in which a delta's numbers are written."""

ENCODINGS = ("F32", "BF16", "F16")

_MARK = "|"
"""What stands between a tensor's name and the part of its change that a stored tensor is."""


class Encoded(Protocol):
    """How one tensor's change is stored."""

    kind: ClassVar[str]
    """Name of the encoding."""

    def said(self) -> object:
        """Return what the file's metadata say of it, as JSON."""
        ...

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return the tensors that are stored for it.

        Args:
            name: The base's name of the tensor.
            spec: The base's tensor.
            dtype: Dtype of the delta's numbers.
        """
        ...

    def problem(self, spec: TensorSpec, /) -> str | None:
        """Return why a tensor of the base cannot be stored so; None if it can."""
        ...


@dataclass(frozen=True)
class Dense:
    """δ itself."""

    kind: ClassVar[str] = "dense"

    def said(self) -> object:
        """Return the name alone."""
        return self.kind

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return one tensor, of the base's shape."""
        return {name: TensorSpec(dtype=dtype, shape=spec.shape)}

    def problem(self, _spec: TensorSpec) -> str | None:
        """Return None: every tensor can be stored so."""
        return None


@dataclass(frozen=True)
class LowRank:
    """δ = scale · up @ down."""

    rank: int
    """Number of columns of `up` and of rows of `down`."""
    scale: float
    kind: ClassVar[str] = "low-rank"

    def said(self) -> object:
        """Return the kind, the rank and the scale."""
        return {"kind": self.kind, "rank": self.rank, "scale": self.scale}

    def stored(self, name: str, spec: TensorSpec, dtype: str) -> Mapping[str, TensorSpec]:
        """Return the two factors."""
        rows, columns = as_matrix(spec.shape)
        return {
            part_name(name, "up"): TensorSpec(dtype=dtype, shape=(rows, self.rank)),
            part_name(name, "down"): TensorSpec(dtype=dtype, shape=(self.rank, columns)),
        }

    def problem(self, spec: TensorSpec) -> str | None:
        """Return why a tensor cannot be stored so: factors that are as large as it say nothing that it does not."""
        rows, columns = as_matrix(spec.shape)
        if self.rank * (rows + columns) >= rows * columns:
            return f"factors of rank {self.rank} are no smaller than the {rows} × {columns} tensor; send it dense"
        return None


DENSE = Dense()
"""The encoding of what has no smaller one."""


def part_name(name: str, part: str) -> str:
    """Return the name under which a part of a tensor's change is stored.

    >>> part_name("encoder.weight", "up")
    'encoder.weight|up'
    """
    return f"{name}{_MARK}{part}"


def parse_encoding(name: str, said: object) -> Encoded:
    """Return what a delta's metadata say of a tensor.

    Raises:
        SchemaMismatchError: It is none of the encodings that are known here.
    """
    match said:
        case "dense":
            return DENSE
        case {"kind": "low-rank", "rank": int(rank), "scale": float() | int() as scale, **more} if not more:
            if type(rank) is int and rank > 0 and type(scale) is not bool and _is_finite(scale):
                return LowRank(rank, float(scale))
    raise SchemaMismatchError(
        f"tensor {name[:200]!r}: encoding {str(said)[:100]!r}, expected dense, or low-rank with a rank and a finite "
        "scale; upgrade coldfuse if it is a newer one"
    )


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # JSON has integers of any length
        return False
