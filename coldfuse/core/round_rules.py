"""When rounds close, and what becomes of who is late: the rules of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.staleness import MAX_STALENESS, StalenessRule, staleness_weight
from coldfuse.core.value import Value

MAX_QUORUM = (1 << 31) - 1
"""The largest quorum: more than there are people to contribute, and what the wire can carry."""

Close = Literal["quorum", "active", "grace", "all"]
"""When a round with a quorum closes: at once, when everybody active has come, when all have usually come, or when
everybody enrolled has come."""

Late = Literal["drop", "next", "rebase"]
"""What becomes of a contribution whose base is the latest release no more."""


class RoundRules(Value):
    """When a round closes, and what becomes of who is late. What is not said is as it was before it could be said."""

    quorum: Annotated[int, Field(ge=1, le=MAX_QUORUM)] = 2
    """Number of admitted contributions that lets a round close."""
    deadline_s: Annotated[float, Field(gt=0)] = 900.0
    """Seconds after which a round with too few contributions is abandoned; what was admitted counts for the next."""
    close: Close = "quorum"
    """When a round with a quorum closes. `quorum`: at once. `active`: when everybody who contributed to one of the last
    three rounds has come; nobody is waited for beyond one and a half times what it usually takes. `grace`: at the age
    by which all have usually come, which follows from past rounds. `all`: when everybody who is enrolled to contribute
    has come; who does not come is waited for until `max_grace_s`. Without a list of members that is `active`."""
    grace_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds that every round stays open at least: what the slowest honest node needs. Nobody can make rounds faster,
    under however many names. Never more than `max_grace_s` or the deadline."""
    max_grace_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which a round with a quorum waits for nobody; None, or more than the deadline: the deadline."""
    spread: Annotated[float, Field(ge=0, le=100)] = 3.0
    """How many MADs after the median of past rounds the grace ends."""
    late: Late = "drop"
    """What becomes of a contribution whose base is no more the latest. `drop`: it is refused, and its contributor is
    told so. `next`: it counts in the one next round. `rebase`: it counts in the open round, its delta applied to the
    current base, if its base is not too old."""
    staleness: StalenessRule = "constant"
    """What such a contribution counts."""
    max_staleness: Annotated[int, Field(ge=1, le=MAX_STALENESS)] = 10
    """Number of releases by which the base of a contribution may be older under `rebase`."""

    @property
    def oldest(self) -> int:
        """Number of releases by which a contribution's base may be older than the round's."""
        return {"drop": 0, "next": 1, "rebase": self.max_staleness}[self.late]

    @property
    def longest_grace_s(self) -> float:
        """Age after which a round with a quorum waits for nobody."""
        return min(self.max_grace_s or self.deadline_s, self.deadline_s)

    @property
    def lateness(self) -> str:
        """What becomes of a contribution whose base is no more the latest, in words."""
        weight = "" if self.staleness == "constant" else f", by its weight {self.staleness}"
        return {
            "drop": "what was trained on an older release is not taken",
            "next": f"what was trained on the release before counts{weight}",
            "rebase": f"what was trained on one of the {self.max_staleness} releases before counts{weight}",
        }[self.late]

    def weight_of(self, staleness: int) -> float:
        """Return what a contribution counts whose base is so many releases older; 1 for a fresh one."""
        return staleness_weight(self.staleness, staleness) if staleness else 1.0
