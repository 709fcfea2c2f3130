"""What a federation asks of contributions beyond a file that is sound: the numbers by which they are compared."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.value import Value


class ScreeningRules(Value):
    """How contributions are judged: each by what it claims and changes, and by the others of its kind.

    >>> str(ScreeningRules()), str(ScreeningRules.off())
    ('strict', 'off')
    """

    is_on: bool = True
    """False to take whatever is sound by itself, as experiments may want it."""
    max_examples: Annotated[int, Field(ge=1, le=2**40)] = 10**9
    """Maximum number of examples that a contribution may claim."""
    max_change: Annotated[float, Field(gt=0)] = 2.0**16
    """Size that every change of a weight stays below: numbers of 16 bits hold no larger weight."""
    min_change: Annotated[float, Field(ge=0)] = 1e-9
    """Size that the largest change of a delta has at least: weights of 32 bits notice none that is smaller."""
    enough: Annotated[int, Field(ge=3, le=10_000)] = 5
    """Number of contributions of a kind from which they are judged by each other, and before which by past rounds."""
    factor: Annotated[float, Field(gt=1, le=1e6)] = 3.0
    """Length of a delta, and weight of a contribution, up to which both are taken, in medians."""
    spread: Annotated[float, Field(gt=0, le=1e6)] = 5.0
    """Distance from the median length up to which deltas are taken even if they are longer than that, in MADs."""
    min_cosine: Annotated[float, Field(gt=0, le=1)] = 0.999
    """Cosine above which of two deltas one is a copy, scaled, turned round or covered with noise."""
    outer_bound: Annotated[float, Field(gt=0, le=1e6)] = 30.0
    """Largest element of a fused delta that counts in adaptive outer steps, in their own units, unless the method's own
    `bound` says otherwise."""

    @classmethod
    def off(cls) -> ScreeningRules:
        """Return rules that compare nothing."""
        return cls(is_on=False)

    def __str__(self) -> str:
        """Return the word for people."""
        if not self.is_on:
            return "off"
        return "strict" if self == ScreeningRules() else "with numbers of its own"
