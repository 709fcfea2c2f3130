"""The product of two factors, with the same bits wherever and however it is computed.

BLAS adds in an order that depends on the processor, the threads and the number of rows. Here an element is the float64
sum of its terms in the order of the rank, so that neither the machine nor how a product is cut into rows, columns or
ranks changes a bit. Letters: O rows, I columns, K rank.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

_TILE_ELEMENTS = 16_384
"""Number of elements of a product that are made at a time: 128 KiB, which stay in a core's cache over all ranks."""


def as_matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return rows and columns of a tensor seen as a matrix: all dimensions after the first are one.

    >>> as_matrix((8, 4, 3, 3)), as_matrix((8,)), as_matrix(())
    ((8, 36), (8, 1), (1, 1))
    """
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def multiply(left_OK: Float64, right_KI: Float64, *, tile_elements: int = _TILE_ELEMENTS) -> Float64:
    """Multiply, adding over the rank in its order: neither the number of rows nor the tiles' size changes a bit."""
    product_OI = np.zeros((len(left_OK), right_KI.shape[1]))
    add_product(product_OI, left_OK, right_KI, tile_elements=tile_elements)
    return product_OI


def add_product(sum_OI: Float64, left_OK: Float64, right_KI: Float64, *, tile_elements: int = _TILE_ELEMENTS) -> None:
    """Add a product to a sum in place, term by term in the order of the rank: as if the ranks before were its own."""
    step = max(tile_elements // max(right_KI.shape[1], 1), 1)
    term = np.empty((step, right_KI.shape[1]))
    for start in range(0, len(left_OK), step):
        tile, left = sum_OI[start : start + step], left_OK[start : start + step]
        for k in range(len(right_KI)):
            tile += np.multiply(left[:, k, None], right_KI[k], out=term[: len(tile)])
