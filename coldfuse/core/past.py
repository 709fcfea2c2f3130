"""What a round knows of the rounds before it.

It travels in the entry that opens the round, and is bounded there: the cost of a round does not grow with past rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Annotated

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.value import Digest, Name, Value

MAX_PAST = 20
"""Number of past rounds that travel on."""

MIN_PAST = 5
"""Number of past rounds from which on a grace follows from them: the median of fewer says little."""

ACTIVE_ROUNDS = 3
"""Number of rounds after its last contribution for which a contributor counts as active."""

MAX_ACTIVE = 1000
"""Number of active contributors that a round waits for at most: those who have contributed most often."""

Seconds = Annotated[float, Field(ge=0)]


class PastRound(Value):
    """A round that made a release, in short."""

    base_release: Count
    base_digest: Digest
    """Model digest of its base."""
    last_s: Seconds | None = None
    """Seconds after which the last contribution that it fused had come, by its leader's clock; None where no leader
    has measured it."""
    duration_s: Seconds | None = None
    """Seconds from its opening to its release; None where no leader has measured it."""


class ActiveContributor(Value):
    """Somebody who has contributed lately, and may do so again."""

    contributor: Name
    usual_s: Seconds | None = None
    """Seconds from the release of its last base to its contribution; None where no leader has measured it."""
    num_missed: Count = 0
    """Number of rounds since its last contribution."""
    num_rounds: Count = 1
    """Number of rounds that it has contributed to while it was active."""


def usual_end_s(past: Sequence[PastRound], *, spread: float) -> float | None:
    """Return the age at which all contributions of a round have usually come; None while too little is known.

    median + spread · MAD of the last arrivals of past rounds (MAD: the median of the distances from the median). Where
    all came at nearly the same time, a tenth of the median stands for MAD: the next one will not.

    >>> rounds = [PastRound(base_release=n, base_digest="0" * 64, last_s=s) for n, s in enumerate((9, 10, 10, 12, 90))]
    >>> usual_end_s(rounds, spread=3.0), usual_end_s(rounds[:4], spread=3.0)
    (13.0, None)

    Args:
        past: The last rounds.
        spread: How many MADs after the median are waited for.
    """
    times = [one.last_s for one in past if one.last_s is not None]
    if len(times) < MIN_PAST:
        return None
    middle = median(times)
    return middle + spread * max(median(abs(time - middle) for time in times), middle / 10)
