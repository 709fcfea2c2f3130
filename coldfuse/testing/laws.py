"""What has to hold for fusion methods, whoever wrote them: every law by name, as a function that tries a method.

A law takes the method's class, or anything else that makes the method (`partial(MyMethod, density=0.5)`), tries it on
small models, and raises `LawBrokenError`, which says where it does not hold.
"""

from __future__ import annotations

from collections.abc import Callable

from coldfuse.testing import engine as laws_engine
from coldfuse.testing import values as laws_values
from coldfuse.testing.trial import LawBrokenError, Maker

__all__ = ["AVERAGE_LAWS", "LAWS", "SYMMETRY_LAWS", "Law", "LawBrokenError", "Maker", "check_method"]

Law = Callable[[Maker], None]

LAWS: dict[str, Law] = {
    "describes itself": laws_engine.describes_itself,
    "deterministic": laws_values.is_deterministic,
    "cut": laws_engine.does_not_depend_on_the_cut,
    "arguments": laws_engine.leaves_its_arguments_alone,
    "zero": laws_values.zero_deltas_keep_the_base,
    "unchanged tensor": laws_values.a_tensor_that_nobody_changed_stays,
    "finite": laws_values.finite_in_finite_out,
    "little": laws_values.little_is_enough,
    "degenerate": laws_values.degenerate_deltas_are_fused_or_refused,
    "weight zero": laws_values.weight_zero_is_absence,
    "own contribution": laws_engine.a_transform_changes_its_own_contribution,
    "rest": laws_engine.an_outer_step_rests_at_rest,
}
"""Laws of every method; those of one kind of steps hold for the others without being tried."""

AVERAGE_LAWS: dict[str, Law] = {
    "agreement": laws_values.what_all_agree_on_comes_back,
    "relative weights": laws_values.weights_are_relative,
    "impossible weights": laws_values.weights_that_make_no_average_are_refused,
}
"""Laws of combiners that average (a sum, as in task arithmetic, does not)."""

SYMMETRY_LAWS: dict[str, Law] = {
    "scale": laws_values.larger_deltas_move_as_much_farther,
    "order": laws_values.the_order_does_not_matter,
}
"""Laws of most methods: not `scale`, where a parameter has a delta's unit; nor `order`, where it matters by design."""


def check_method(make: Maker, *, averages: bool, scales: bool = True, ignores_order: bool = True) -> None:
    """Try a method against every law that it has to keep.

    Args:
        make: The method's class, or anything else that makes the method: `partial(MyMethod, density=0.5)`.
        averages: True for combiners that give back what all contributions agree on; a sum does not.
        scales: False for methods with a parameter in a delta's unit, such as a norm.
        ignores_order: False for combiners where the contributions' order matters by design.

    Raises:
        LawBrokenError: A law does not hold; the message names the method, and what it did to which contributions.
    """
    symmetries = {"scale": scales, "order": ignores_order}
    for law in LAWS.values():
        law(make)
    for law in AVERAGE_LAWS.values() if averages else ():
        law(make)
    for name in filter(symmetries.__getitem__, SYMMETRY_LAWS):
        SYMMETRY_LAWS[name](make)
