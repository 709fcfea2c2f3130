"""Make the factors of a shared LoRA's module from what is fused of its product; one module is held at a time.

A linear combination is a sum of products that lie beside each other: with the coefficients that it has for deltas,

    W = B_t A_t + (b B_t A_t + Σ_i c_i (B_i A_i − B_t A_t)) / d

Of every other method the whole matrix is fused, by the same code as any tensor, and then cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from coldfuse.adapters.changes import Float64, Read
from coldfuse.adapters.refactored import CutFactors, Refactored, cut_matrix, cut_stack
from coldfuse.engine.devices import decompositions, one_blas_thread
from coldfuse.engine.job import Fusion
from coldfuse.engine.operands import AdapterOperand
from coldfuse.engine.plan import FactorTask, PieceTask
from coldfuse.engine.ranges import info_of
from coldfuse.fusion.method import LinearCombiner


@dataclass(frozen=True, kw_only=True)
class CutNorms:
    """What was lost of one module."""

    norm: float
    """Norm of the fused product, ‖W‖."""
    lost: float
    """Norm of what its factors do not hold."""


class Cutter:
    """Makes factors, of one module after the other."""

    def __init__(self, fusion: Fusion, read: Read, fuse_whole: Callable[[PieceTask], Float64]) -> None:
        """Take what reads factors, and what fuses a whole product."""
        self._fusion, self._read, self._fuse_whole = fusion, read, fuse_whole
        self._held: tuple[str, CutFactors] | None = None

    def cut(self, task: FactorTask) -> CutFactors | None:
        """Return a module's new factors; None if nobody has changed it."""
        product = task.product
        if not any(product.contributions):
            return None
        if self._held is None or self._held[0] != product.tensor:
            self._held = None
            with one_blas_thread(), decompositions():
                self._held = product.tensor, self._cut(task)
        return self._held[1]

    def _cut(self, task: FactorTask) -> CutFactors:
        product = task.product
        up_OR, down_RI = task.base.factors(self._read)
        if not self._fusion.stacks_factors:
            return cut_matrix(self._fuse_whole(product) / task.scale, before_RI=down_RI, name=product.tensor)
        step = len(self._fusion.recipe.transforms)
        combination = cast(LinearCombiner, self._fusion.recipe.combiner).combination(
            info_of(self._fusion, product, step)
        )
        shares_C = info_of(self._fusion, product, 0).values("share", 1.0)
        given = {i: o for i, o in enumerate(product.contributions) if isinstance(o, AdapterOperand)}
        coefficients = [float(combination.deltas_C[i] * shares_C[i]) / combination.divisor for i in given]
        ups, downs = [up_OR], [down_RI]
        for operand in given.values():
            up, down = cast(Refactored, operand.change.changes[0]).own.factors(self._read)
            ups.append(up)
            downs.append(down)
        of_base = 1.0 + combination.base / combination.divisor - math.fsum(coefficients)
        return cut_stack(ups, downs, [of_base, *coefficients], before_RI=down_RI, name=product.tensor)


def relative(norms: CutNorms) -> float:
    """Return ‖W − cut‖ / ‖W‖; 0 of nothing."""
    return min(norms.lost / norms.norm, 1.0) if norms.norm else 0.0


def all_together(cuts: Mapping[str, CutNorms]) -> CutNorms:
    """Return the norms over all modules."""
    return CutNorms(
        norm=math.hypot(*(one.norm for one in cuts.values())), lost=math.hypot(*(one.lost for one in cuts.values()))
    )
