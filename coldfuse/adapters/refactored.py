# ruff: noqa: N803, N806, N815 - tensor names end in their shape
"""LoRA factors that were trained, as what they are to fusion: the change of a product.

A contribution moves B_t and A_t to B_i and A_i. What a layer sees of that is the change of its weight,

    D_i = s (B_i A_i − B_t A_t)

Means of factors are no factors of a mean: (Σ B_i / C)(Σ A_i / C) has terms B_i A_j of contributors who never met. So
products are fused, whole or as factors that lie beside each other, and the result is cut to the rank again:

    W = Σ_k c_k B_k A_k = [c_1 B_1 … c_K B_K] [A_1; …; A_K] = Q_U (R_U R_V^T) Q_V^T

of which a small matrix in the middle is decomposed (FedIT's flaw and the exact sum of stacked factors: FLoRA, arXiv
2409.05976; the cut: FlexLoRA, arXiv 2402.11505). The new A has orthogonal rows, as long as those of the A before, so
that learning rates keep their meaning; what of the rank the product does not need is filled with rows of the A before,
and zeros in B, so that it can be trained. Last bits of LAPACK differ between machines, as in `fusion.matrix`: on one
machine with one thread of it the bytes are the same. Nothing is rounded away to hide that: a value at the edge of any
rounding would still fall to either side.

Letters: O rows, I columns, K rank of what is cut, R rank that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from coldfuse.adapters.changes import Factor, Float64, Matrix, Product, Read, read_stored
from coldfuse.adapters.recompress import norm_of
from coldfuse.errors import FusionError
from coldfuse.tensors.files import ByteRange
from coldfuse.tensors.products import multiply

_ITEM = 8
"""Bytes of an element in float64."""


@dataclass(frozen=True)
class Moved:
    """A factor of a base with a delta added."""

    base: Factor
    delta: Matrix

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.base.shape

    def rows(self, read: Read, first: int, num: int) -> Float64:
        """Return rows `first` to `first + num`."""
        return self.base.rows(read, first, num) + self.delta.rows(read, first, num)


@dataclass(frozen=True)
class Refactored:
    """δ = s (B_i A_i − B_t A_t)."""

    own: Product
    base: Product
    scale: float
    needs_base: ClassVar[bool] = False
    is_sum: ClassVar[bool] = False

    def rows(self, read: Read, _base_OI: Float64, first: int, num: int) -> Float64:
        """Return some rows of the delta."""
        return self.scale * (self.own.rows(read, first, num) - self.base.rows(read, first, num))


@dataclass(frozen=True, kw_only=True)
class CutFactors:
    """A product as factors of a lower rank."""

    up_OR: Float64
    down_RI: Float64
    norm: float
    """Norm of the product, ‖W‖."""
    lost: float
    """Norm of what the factors do not hold, ‖W − BA‖."""


def cut_stack(
    ups: Sequence[Float64], downs: Sequence[Float64], coefficients: Sequence[float], *, before_RI: Float64, name: str
) -> CutFactors:
    """Return Σ_k c_k B_k A_k as factors of the rank of `before_RI`; the sum itself is exact, to float64's rounding.

    Args:
        ups: Each B_k.
        downs: Each A_k.
        coefficients: Each c_k.
        before_RI: The A before, whose rank and scale the new one has.
        name: The module's name, for errors.

    Raises:
        FusionError: The sum holds NaN or infinity.
    """
    shape = ups[0].shape[0], before_RI.shape[1]
    if sum(up.shape[1] for up in ups) >= min(shape):  # the sum itself is no larger than its factors
        sum_OI = np.zeros(shape)
        for up_OK, down_KI, coefficient in zip(ups, downs, coefficients, strict=True):
            with np.errstate(all="ignore"):  # what is not finite is refused below
                sum_OI += coefficient * (up_OK @ down_KI)
        return cut_matrix(sum_OI, before_RI=before_RI, name=name)
    up_OK = np.hstack([coefficient * up for up, coefficient in zip(ups, coefficients, strict=True)])
    down_KI = np.vstack(downs)
    _require_finite(name, up_OK, down_KI)
    left_OK, left_KK = np.linalg.qr(up_OK)
    right_IK, right_KK = np.linalg.qr(down_KI.T)
    with np.errstate(all="ignore"):
        core_KK = left_KK @ right_KK.T
    _require_finite(name, core_KK)
    u_KK, sigma_K, v_KK = np.linalg.svd(core_KK)
    return _cut(left_OK @ u_KK, sigma_K, v_KK @ right_IK.T, before_RI)


def cut_matrix(sum_OI: Float64, *, before_RI: Float64, name: str) -> CutFactors:
    """Return a matrix as factors; arguments and errors as `cut_stack`."""
    _require_finite(name, sum_OI)
    return _cut(*np.linalg.svd(sum_OI, full_matrices=False), before_RI)


def _cut(u_OK: Float64, sigma_K: Float64, v_KI: Float64, before_RI: Float64) -> CutFactors:
    rank = before_RI.shape[0]
    rounding = max(u_OK.shape[0], v_KI.shape[1]) * np.finfo(np.float64).eps * float(sigma_K[:1].sum())
    kept = min(int(np.count_nonzero(sigma_K > rounding)), rank)
    length = float(np.sqrt(np.square(before_RI).sum() / rank)) or 1.0
    largest_K = np.abs(v_KI[:kept]).argmax(axis=1)
    sign_K = np.where(v_KI[np.arange(kept), largest_K] < 0, -1.0, 1.0)  # LAPACK leaves it open
    up_OR, down_RI = np.zeros((u_OK.shape[0], rank)), before_RI.copy()
    up_OR[:, :kept] = u_OK[:, :kept] * (sign_K * sigma_K[:kept] / length)
    down_RI[:kept] = v_KI[:kept] * (sign_K * length)[:, None]
    return CutFactors(up_OR=up_OR, down_RI=down_RI, norm=norm_of(sigma_K), lost=norm_of(sigma_K[rank:]))


def _require_finite(name: str, *arrays: Float64) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise FusionError(f"module {name}: the fused change of weights is not finite; a factor is far too large")


@dataclass(frozen=True)
class ProductValues:
    """The product s·BA of stored factors, as a file of float64 that is computed as it is read."""

    pair: Product
    scale: float

    @property
    def name(self) -> str:
        """What the file is, for people."""
        return "a product of factors"

    @property
    def size_bytes(self) -> int:
        """Size of all its elements."""
        return math.prod(self.pair.shape) * _ITEM

    @property
    def is_remote(self) -> bool:
        """True if reading it again costs what reading it first did."""
        return False

    @property
    def whole(self) -> ByteRange:
        """All of it."""
        return self.range(0, self.size_bytes)

    def open(self) -> _OpenProduct:
        """Return what reads it, which keeps the factors that it has read."""
        return _OpenProduct(self)

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of its bytes."""
        return ByteRange(self, start, length)

    def __str__(self) -> str:
        return self.name


class _OpenProduct:
    """Computes rows of a product from factors that it holds."""

    def __init__(self, values: ProductValues) -> None:
        self._up, self._down = values.pair.factors(read_stored)
        self._scale = values.scale

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the product's bytes from `start`."""
        row_bytes = self._down.shape[1] * _ITEM
        first, end = start // row_bytes, -(-(start + len(buffer)) // row_bytes)
        done = 0
        for row in range(first, end):  # a row at a time: a read may ask for a whole matrix
            row_I = self._scale * multiply(self._up[row : row + 1], self._down)
            data = row_I.reshape(-1).view(np.uint8)[max(start - row * row_bytes, 0) :]
            take = min(len(data), len(buffer) - done)
            buffer[done : done + take] = data[:take].data
            done += take
