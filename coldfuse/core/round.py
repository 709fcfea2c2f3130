"""A round's events, what they add up to, and when a round closes.

The journal of a round is append-only. Its leader's entries are in one order; `received` entries, written by any number
of gateways, have none and need none, because folding them commutes: what is fused is what `closed` lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from coldfuse.core.contribution import Admission, Count, Rejection
from coldfuse.core.damage import Damage, Damaged
from coldfuse.core.federation import RoundRules, Terms
from coldfuse.core.names import DisplayName
from coldfuse.core.value import Digest, Name, Sentence, Value


class Received(Value):
    """A gateway acknowledged a contribution: from here on it is durable and will get a verdict."""

    event: Literal["received"] = "received"
    contribution: Digest
    """Digest of its manifest."""
    contributor: Name
    display_name: DisplayName | None = None
    """Name of its contributor for people; None where `contributor` is the name."""
    received_at_s: float
    """Seconds since 1970, by the gateway's clock."""


class Opened(Value):
    """The round began on this base."""

    event: Literal["opened"] = "opened"
    base_release: Count
    base_digest: Digest
    """Model digest of the base."""
    opened_at_s: float
    """Seconds since 1970, by the aggregator's clock."""
    carried: tuple[Admission, ...] = ()
    """Contributions admitted in the abandoned round before, on the same base: they still count."""
    terms: Terms | None = None
    """What the round was opened with: it keeps them; None in journals of versions in which they could not change."""
    refused_by: str | None = None
    """Method that has refused exactly the carried contributions, if one has."""

    @property
    def is_refused(self) -> bool:
        """True where the round's method would refuse the carried contributions once more, if they make a quorum."""
        return self.terms is None or self.refused_by == self.terms.method


class Admitted(Value):
    """These contributions may be fused."""

    event: Literal["admitted"] = "admitted"
    admissions: tuple[Admission, ...]


class Rejected(Value):
    """These contributions may not be fused, each for its reason."""

    event: Literal["rejected"] = "rejected"
    rejections: tuple[Rejection, ...]


class Closed(Value):
    """Exactly these contributions are fused."""

    event: Literal["closed"] = "closed"
    contributions: tuple[Digest, ...]
    """Digests of their manifests."""
    reason: Sentence
    """Why the round closed, for people."""


class Fused(Value):
    """The fused model lies in the store; its release manifest is written and waits to be published."""

    event: Literal["fused"] = "fused"
    manifest: Digest
    """Digest of the release manifest, an object."""
    model_digest: Digest
    """Digest of the fused model's tensors."""
    moved: float | None = None
    """Fraction of the model's elements whose bytes differ from the base's; None where nobody counted."""


class Published(Value):
    """The release is out; the round is over."""

    event: Literal["published"] = "published"
    release: Count


class Abandoned(Value):
    """The base stays; the round is over: too few contributions came in time, or the method refused them."""

    event: Literal["abandoned"] = "abandoned"
    reason: Sentence


LeaderEvent = Opened | Admitted | Rejected | Damaged | Closed | Fused | Published | Abandoned
Event = Received | LeaderEvent
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


@dataclass(frozen=True)
class RoundState:
    """What a journal adds up to."""

    opened: Opened | None = None
    received: Mapping[str, Received] = field(default_factory=dict)
    admitted: Mapping[str, Admission] = field(default_factory=dict)
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    damaged: Mapping[str, Damage] = field(default_factory=dict)
    """The last damage of each contribution that the store has damaged, whether it was repaired since or not."""
    damages: tuple[Damaged, ...] = ()
    """Every finding of damage since the round was closed, in order."""
    closed: Closed | None = None
    fused: Fused | None = None
    published: Published | None = None
    abandoned: Abandoned | None = None

    @property
    def is_open(self) -> bool:
        """True while a contribution that arrives can still be fused."""
        return self.opened is not None and self.closed is None and not self.is_over

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen, but for verdicts on late contributions."""
        return self.published is not None or self.abandoned is not None

    @property
    def waiting(self) -> list[Received]:
        """Contributions without a verdict, in the order of arrival (ties by digest)."""
        waiting = [
            r for digest, r in self.received.items() if digest not in self.admitted and digest not in self.rejected
        ]
        return sorted(waiting, key=lambda r: (r.received_at_s, r.contribution))


def fold(events: Iterable[Event]) -> RoundState:
    """Add up a journal. Of each single event the first counts; the journal's order makes that the only one."""
    received: dict[str, Received] = {}
    admitted: dict[str, Admission] = {}
    rejected: dict[str, Rejection] = {}
    damaged: dict[str, Damage] = {}
    damages: list[Damaged] = []
    single: dict[str, Event] = {}
    for event in events:
        match event:
            case Received():
                received[event.contribution] = event
            case Admitted():
                admitted |= {a.contribution: a for a in event.admissions}
            case Rejected():
                rejected |= {r.contribution: r for r in event.rejections}
            case Damaged():
                damaged |= {d.contribution: d for d in event.damages}
                damages += [event] if "closed" in single else []
            case _:
                single.setdefault(event.event, event)
                if isinstance(event, Opened):
                    admitted |= {a.contribution: a for a in event.carried}
    # What was damaged after its admission, and never came again, is left out by a rejection.
    admitted = {digest: admission for digest, admission in admitted.items() if digest not in rejected}
    return RoundState(
        received=received, admitted=admitted, rejected=rejected, damaged=damaged, damages=tuple(damages),
        **single,  # type: ignore[arg-type]
    )  # fmt: skip


class RoundAction(Enum):
    """What to do with an open round now."""

    WAIT = "wait"
    FUSE = "fuse"
    ABANDON = "abandon"


def decide(
    rules: RoundRules, *, admitted: int, carried: int = 0, is_refused: bool = True, age_s: float
) -> tuple[RoundAction, str]:
    """Decide what to do with an open round, from its numbers alone.

    Args:
        rules: When a round closes.
        admitted: Number of admitted contributions, with the carried ones.
        carried: Number of those that an abandoned round before has left.
        is_refused: False where nothing has refused the carried ones: they were too few for the rules of that round, or
            its method was another.
        age_s: Seconds since the round opened.

    Returns:
        What to do, and the reason for people.
    """
    if is_refused and admitted == carried >= rules.quorum:  # the method would refuse them once more
        return RoundAction.WAIT, f"the method refused the {carried} contributions from before; more may change that"
    if admitted >= rules.quorum:
        return RoundAction.FUSE, f"quorum reached: {admitted} of {rules.quorum} contributions"
    if admitted == carried:  # nothing would be gained by opening the same round again
        have = f"{carried} of {rules.quorum} contributions from before" if carried else "no contribution yet"
        return RoundAction.WAIT, f"{have}, {rules.quorum} make the quorum"
    left_s = rules.deadline_s - age_s
    if left_s > 0:
        return RoundAction.WAIT, f"{admitted} of {rules.quorum} contributions, {_left(left_s)} left"
    return RoundAction.ABANDON, f"deadline passed with {admitted} of {rules.quorum} contributions"


def _left(left_s: float) -> str:
    """Return what is left of a deadline, as finely as somebody who waits wants it."""
    if left_s < 120:
        return f"{left_s:.0f}s"
    hours, minutes = divmod(int(left_s) // 60, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m"
