"""Measure what a contribution changes of the products of a shared LoRA, whatever factors it has written them in.

    D = s (B_i A_i − B_t A_t) = [s δB, s B_t] [A_i; δA]        δB = B_i − B_t, δA = A_i − A_t

The factors of D are small, so its length and its sketch are had without it. (cB, A/c) is the same module as (B, A), and
has the same of both; a huge B beside a tiny A is judged by what they make together.
"""

from __future__ import annotations

from coldfuse.aggregator.meter import Meter
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.devices import one_blas_thread
from coldfuse.engine.low_rank import LowRank
from coldfuse.engine.operands import Operands
from coldfuse.errors import ContributionRejectedError


def check_products(
    products: tuple[LowRank, ...],
    changes: Operands,
    rules: ScreeningRules,
    meter: Meter,
) -> None:
    """Measure the change of each product; one is held at a time.

    Args:
        products: The modules.
        changes: Where the delta's changes of factors lie, whose numbers are finite.
        rules: The federation's.
        meter: What counts.

    Raises:
        ContributionRejectedError: A weight would change more than any is taken to.
    """
    for product in products:
        factors = product.change(changes)
        if factors is None:
            continue
        with one_blas_thread():
            largest = meter.add_product(product.names[0], *factors)
        if rules.is_on and not largest < rules.max_change:
            raise ContributionRejectedError(
                f"delta: module {product.name[:200]!r} changes its weight by up to {largest:g}, less than "
                f"{rules.max_change:g} is taken; did the training diverge? lower the learning rate"
            )
