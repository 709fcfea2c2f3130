"""The compiled product has the bits of the one that is written in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from coldfuse.engine.multiplying import _add_product, add_product
from coldfuse.tensors import products


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (16, 16, 300), (2, 40, 7)])
def test_the_compiled_loop_adds_in_the_same_order(shape: tuple[int, int, int]) -> None:
    rows, rank, columns = shape
    rng = np.random.default_rng(rank)
    left, right, start = (rng.normal(size=size) for size in ((rows, rank), (rank, columns), (rows, columns)))
    made = [start.copy() for _ in range(3)]
    for add, total in zip((products.add_product, add_product, _add_product), made, strict=True):
        add(total, left, right)
    assert made[0].tobytes() == made[1].tobytes() == made[2].tobytes()
