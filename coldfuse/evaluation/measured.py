"""What is measured of a model on test examples, and how two models are compared by it: values, light to import.

Shape letter: N examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Outcomes = NDArray[np.float64]
"""Shape (N,): how well a model does on each example, higher is better; 1 and 0 where an answer is right or wrong."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A score, and what it is made of."""

    value: float
    """Value of the task's metric."""
    outcomes: tuple[float, ...] | None
    """Score of each example, higher is better; None where the task gives none."""
    notes: tuple[str, ...] = ()
    """What should be known of it."""
    metric: str | None = None
    """What is measured, where the task does not say it."""
    higher_is_better: bool | None = None
    """Whether a higher value is a better one, where the task does not say it."""


def nothing_right(like: Outcomes) -> Outcomes:
    """Return the outcomes of a model that gets nothing right of what another one's outcomes are of."""
    is_right_or_wrong = bool(((like == 0) | (like == 1)).all())
    return np.full_like(like, 0.0 if is_right_or_wrong else -math.inf)


def compare(before: Outcomes, after: Outcomes) -> tuple[int, int]:
    """Count the examples on which only the one before does well, or better, and only the one after.

    >>> compare(np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0]))
    (1, 1)
    """
    return int((before > after).sum()), int((after > before).sum())
