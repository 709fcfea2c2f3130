"""The product of two factors as a compiled loop, where that pays: the same sums in the same order, in less time."""

from __future__ import annotations

from typing import Any

from coldfuse.fusion.block import Float64
from coldfuse.fusion.compiling import compiled, pays
from coldfuse.tensors import products


def add_product(sum_OI: Float64, left_OK: Float64, right_KI: Float64) -> None:
    """Add a product to a sum in place, as `coldfuse.tensors.products.add_product` does, bit by bit."""
    if pays(sum_OI.size * left_OK.shape[1]):
        _add_product(sum_OI, left_OK, right_KI)
    else:
        products.add_product(sum_OI, left_OK, right_KI)


@compiled
def _add_product(total: Any, left: Any, right: Any) -> None:
    for o in range(total.shape[0]):
        row = total[o]
        for k in range(left.shape[1]):
            factor, other = left[o, k], right[k]
            for i in range(row.size):
                row[i] += factor * other[i]
