"""Which of an adapter's changes are a product of two factors, and travel as these: LoRA and rsLoRA of any layer.

The product of a change is worth what its rows are (`changes`), bit by bit: it is the same sum in the same order. What
depends on the base (DoRA, IA³), is no single product (LoHa, LoKr), or is of several adapters' parts, has no factors.
"""

from __future__ import annotations

from coldfuse.adapters.adapter import AdapterTensor
from coldfuse.adapters.changes import Added, Factor, Product, Read
from coldfuse.tensors.changes import LowRankChange
from coldfuse.tensors.products import as_matrix


def factored(tensor: AdapterTensor, read: Read) -> LowRankChange | None:
    """Return an adapter's change of a tensor as the product that it is; None where it is none.

    Args:
        tensor: What the adapter does to a tensor.
        read: Reads the factors.
    """
    match tensor.changes:
        case (Added(matrix=Product(left=Factor() as left, right=Factor() as right), scale=scale),):
            if (left.shape[0], right.shape[1]) != as_matrix(tensor.shape):
                return None
            up, down = left.rows(read, 0, left.shape[0]), right.rows(read, 0, right.shape[0])
            return LowRankChange(up, down, scale)
    return None
