"""Measures that several methods need: Gram matrices and norms."""

from __future__ import annotations

import numpy as np

from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Scope, Sums
from coldfuse.fusion.products import inner_products, squared_lengths


def gram(per: Scope) -> Sums:
    """Measure `gram`: G_ij = ⟨δ_i, δ_j⟩, shape (C, C)."""
    return Sums(name="gram", of=_gram, per=per)


def gram_with_base(per: Scope) -> Sums:
    """Measure `gram_with_base`: inner products of θ_t (row 0) and all δ_i, shape (C + 1, C + 1)."""
    return Sums(name="gram_with_base", of=_gram_with_base, per=per)


def squared_norms(per: Scope) -> Sums:
    """Measure `squared_norms`: ‖δ_i‖², shape (C,)."""
    return Sums(name="squared_norms", of=_squared_norms, per=per)


def _gram(block: Block) -> Float64:
    return inner_products(block.deltas_CN)


def _gram_with_base(block: Block) -> Float64:
    return inner_products(np.concatenate([block.base_N[None], block.deltas_CN]))


def _squared_norms(block: Block) -> Float64:
    return squared_lengths(block.deltas_CN)
