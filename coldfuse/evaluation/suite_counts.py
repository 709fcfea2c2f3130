"""Two models' outcomes on a suite as the counts that a gate decides by."""

from __future__ import annotations

import numpy as np

from coldfuse.core.gate_edits import PARTS, suite_of
from coldfuse.core.gate_rules import SuiteCounts
from coldfuse.evaluation.measured import Outcomes, compare
from coldfuse.evaluation.suites import Suite


def counts_of(
    suite: Suite, before: Outcomes, after: Outcomes, *, evaluator: str | None = None
) -> tuple[SuiteCounts, ...]:
    """Count what only one of two models gets right; of an edit's suite, for each of its parts, which are suites.

    Args:
        suite: The suite, with one test set.
        before: What the base gets right.
        after: What the other model gets right.
        evaluator: Member who counts; None for the operator.
    """
    if not suite.is_edit:
        only_before, only_after = compare(before, after)
        return (SuiteCounts(
            suite=suite.name, evaluator=evaluator, num_examples=suite.num_tests, only_before=only_before,
            only_after=only_after,
        ),)  # fmt: skip
    counts = []
    for part in PARTS:
        own = np.array([row.kind == part for row in suite.test.rows])
        if own.any():
            only_before, only_after = compare(before[own], after[own])
            counts.append(SuiteCounts(
                suite=suite_of(suite.name, part), evaluator=evaluator, num_examples=int(own.sum()),
                only_before=only_before, only_after=only_after, part=part, num_right=int((after[own] > 0).sum()),
            ))  # fmt: skip
    return tuple(counts)
