"""What a federation asks of its contributors' data beside their deltas, and what a contribution says of that."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.blob import Blob
from coldfuse.core.value import Digest, Value

StatisticsKind = Literal["fisher", "gram", "variance"]
"""Fisher information, Gram matrices of layers' inputs, or the variance of weights along the training."""

Estimator = Literal["exact", "empirical", "inputs", "swag-diagonal"]
"""How statistics are found: a Fisher's two ways, a layer's inputs, or the moments of SWAG-Diagonal."""

Coding = Literal["F16", "log8"]
"""How the numbers travel: as float16 with an exponent for each block of them, or as logarithms in 8 bits."""

MAX_COUNT = 1 << 53
"""More tokens than anybody counts; JSON and floats hold every number up to it."""


class StatisticsRule(Value):
    """Which statistics the rounds of a federation use, and what becomes of who brings none.

    >>> str(StatisticsRule()), str(StatisticsRule(kind="gram", presence="optional"))
    ('none', 'gram, optional')
    """

    kind: Literal["none", "fisher", "gram", "variance"] = "none"
    """What the fusion method looks at; `none` where it looks at deltas alone."""
    presence: Literal["require", "optional"] = "require"
    """`require`: a contribution without them is rejected. `optional`: it takes part, as one whose data say the same of
    everything (Fisher information, variance), or whose inputs are like the others' on average (Gram matrices)."""

    @property
    def wanted(self) -> StatisticsKind | None:
        """Kind that a contribution should bring; None for none."""
        return None if self.kind == "none" else self.kind

    @property
    def is_required(self) -> bool:
        """True where a contribution without statistics is rejected."""
        return self.wanted is not None and self.presence == "require"

    def __str__(self) -> str:
        """Return the words for people."""
        return "none" if self.kind == "none" else f"{self.kind}, {self.presence}"


class ContributedStatistics(Value):
    """Statistics that travel beside a delta."""

    kind: StatisticsKind
    """What the numbers are."""
    estimator: Estimator
    """How they were found."""
    coding: Coding
    """How they are written."""
    num_examples: Annotated[int, Field(ge=0, le=MAX_COUNT)]
    """Number of examples that were looked at."""
    count: Annotated[int, Field(ge=1, le=MAX_COUNT)]
    """Number of examples, tokens or snapshots that they are a mean over."""
    error: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What coding them changed, as its sender measured it: the length of the difference over that of the numbers."""
    file: Blob
    """Parts of their file."""
    digest: Digest
    """SHA-256 of the file's list of parts."""
