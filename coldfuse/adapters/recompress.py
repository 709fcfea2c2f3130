# ruff: noqa: N803, N806, N815 - tensor names end in their shape
"""A fused delta as low-rank factors again: B and A of rank r that are closest to δ.

The best of any rank r is the truncated singular value decomposition δ = U·diag(σ)·Vᵀ (Eckart and Young, 1936):

    B = U_r·√σ_r,  A = √σ_r·V_rᵀ,  ‖δ − BA‖² = Σ_{k>r} σ_k²

Only layers that PEFT has factors for get them (`layout`): biases, norms and bare parameters are dropped, and reported
with their norms. The last bits of LAPACK differ between machines, so unlike a fused model these files do too.

Letters: O rows, I columns, R rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from coldfuse.adapters.changes import Float64
from coldfuse.adapters.layout import LoraLayout
from coldfuse.core.schema import Schema
from coldfuse.errors import FusionError, UserInputError
from coldfuse.tensors.products import as_matrix


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The best approximation BA of one delta."""

    b_OR: Float64
    a_RI: Float64
    norm: float
    """Norm of the delta, ‖δ‖."""
    lost: float
    """Norm of what the factors do not hold, ‖δ − BA‖."""


@dataclass(frozen=True, kw_only=True)
class Recompressed:
    """A model's delta as far as factors can carry it."""

    factors: Mapping[str, Factors]
    """Factors by the base's name of the tensor."""
    dropped: Mapping[str, float]
    """Norm of the delta of each tensor that changed and has no factors."""
    applied: Mapping[str, float] | None = None
    """Norm of what of each tensor's delta is missing once PEFT has loaded the adapter; None: PEFT was not asked."""
    unchecked: str = ""
    """Why PEFT was not asked."""
    tied: frozenset[str] = frozenset()
    """Embeddings with factors that are also a head."""

    @property
    def errors(self) -> Mapping[str, float]:
        """Share of each tensor's delta that is lost, of those with factors."""
        return {name: self._lost(name) / item.norm if item.norm else 0.0 for name, item in self.factors.items()}

    @property
    def relative_error(self) -> float:
        """Share of the whole delta's norm that is lost, once the adapter is merged."""
        return self._relative(missing=())

    @property
    def unmerged_error(self) -> float:
        """The same before the adapter is merged: a head that is the embedding does without the embedding's factors."""
        return self._relative(missing=[self.factors[name].norm for name in self.tied])

    def _relative(self, missing: Iterable[float]) -> float:
        lost = math.hypot(*(self._lost(name) for name in self.factors), *self.dropped.values(), *missing)
        norm = math.hypot(*(item.norm for item in self.factors.values()), *self.dropped.values(), *missing)
        return lost / norm if norm else 0.0

    def _lost(self, name: str) -> float:
        return self.factors[name].lost if self.applied is None else self.applied[name]


def recompress(delta_OI: Float64, rank: int, *, name: str) -> Factors:
    """Return the factors that are closest to a delta.

    Args:
        delta_OI: The delta of one matrix.
        rank: Number of columns of B; fewer if the matrix itself has fewer rows or columns.
        name: The tensor's name, for errors.

    Raises:
        FusionError: The delta holds NaN or infinity.
    """
    if not np.isfinite(delta_OI).all():
        raise FusionError(f"{name}: the fused delta is not finite, so it has no low-rank factors")
    u_OR, sigma_R, v_RI = np.linalg.svd(delta_OI, full_matrices=False)
    root_R = np.sqrt(sigma_R[:rank])
    return Factors(
        b_OR=u_OR[:, :rank] * root_R,
        a_RI=root_R[:, None] * v_RI[:rank],
        norm=norm_of(sigma_R),
        lost=norm_of(sigma_R[rank:]),
    )


def recompress_all(
    schema: Schema, names: Iterable[str], read_delta: Callable[[str], Float64], *, rank: int, layout: LoraLayout
) -> Recompressed:
    """Return the factors of the named tensors' deltas, one matrix in memory at a time; what is zero is left out.

    Args:
        schema: Dtypes and shapes of the base's tensors.
        names: The base's tensors that were fused.
        read_delta: Returns a tensor's whole fused delta, in any shape of its elements.
        rank: Maximum number of columns of B.
        layout: The layers that PEFT has factors for.

    Raises:
        UserInputError: The rank is below 1.
        FusionError: A delta holds NaN or infinity.
    """
    if rank < 1:
        raise UserInputError(f"rank {rank}: expected 1 or more")
    factors: dict[str, Factors] = {}
    dropped: dict[str, float] = {}
    for name in sorted(names):
        delta = read_delta(name)
        if not delta.any():
            continue
        if name in layout.layers:
            factors[name] = recompress(delta.reshape(as_matrix(schema[name].shape)), rank, name=name)
        else:
            dropped[name] = norm_of(delta)
    return Recompressed(factors=factors, dropped=dropped, tied=layout.tied & factors.keys())


def norm_of(values: Float64) -> float:
    """Return the 2-norm of all elements; squares of very small or large ones leave float64's range, so divide first."""
    largest = float(np.abs(values).max(initial=0.0))
    return largest * float(np.sqrt(np.square(values / largest).sum())) if largest else 0.0
