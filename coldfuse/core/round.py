"""A round's events, what they add up to, and when a round closes.

The journal of a round is append-only. Its leader's entries are in one order; `received` entries, written by any number
of gateways, have none and need none, because folding them commutes: what is fused is what `closed` lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, TypeAdapter, model_serializer

from coldfuse.core.contribution import Admission, Count, Rejection
from coldfuse.core.damage import Damage, Damaged
from coldfuse.core.gating import Asked, Evaluated, Gating, Tried, Weighed
from coldfuse.core.names import DisplayName
from coldfuse.core.opening import Opened
from coldfuse.core.signature import Signature
from coldfuse.core.timed import Timed
from coldfuse.core.value import Digest, Name, Sentence, Value, without_unset

__all__ = [
    "EVENT", "Abandoned", "Admitted", "Closed", "Event", "Fused", "Held", "LeaderEvent", "Opened", "Published",
    "Received", "Rejected", "RoundState", "fold",
]  # fmt: skip


class Received(Value):
    """A gateway acknowledged a contribution: from here on it is durable and will get a verdict."""

    event: Literal["received"] = "received"
    contribution: Digest
    """Digest of its manifest."""
    contributor: Name
    display_name: DisplayName | None = None
    """Name of its contributor for people; None where `contributor` is the name."""
    received_at_s: float
    """Seconds since 1970, by the gateway's clock: for people, and for an order among what a leader finds at once."""
    signature: Signature | None = None
    """Its contributor's signature over the manifest; None in federations without a root."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "signature")


class Admitted(Timed):
    """These contributions may be fused. Without any it only says how old the round is, for who leads it next."""

    event: Literal["admitted"] = "admitted"
    admissions: tuple[Admission, ...]


class Held(Timed):
    """These contributions are sound, but look too long beside the others: whether they are is said later."""

    event: Literal["held"] = "held"
    admissions: tuple[Admission, ...]
    """What is known of them: an entry like it follows if they are admitted."""


class Rejected(Timed):
    """These contributions may not be fused, each for its reason."""

    event: Literal["rejected"] = "rejected"
    rejections: tuple[Rejection, ...]


class Closed(Timed):
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


class Published(Timed):
    """The release is out; the round is over."""

    event: Literal["published"] = "published"
    release: Count


class Abandoned(Value):
    """The base stays; the round is over: too few contributions came in time, or the method refused them."""

    event: Literal["abandoned"] = "abandoned"
    reason: Sentence


LeaderEvent = (
    Opened
    | Admitted
    | Held
    | Rejected
    | Damaged
    | Closed
    | Fused
    | Asked
    | Tried
    | Weighed
    | Evaluated
    | Published
    | Abandoned
)
Event = Received | LeaderEvent
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


@dataclass(frozen=True)
class RoundState:
    """What a journal adds up to."""

    opened: Opened | None = None
    received: Mapping[str, Received] = field(default_factory=dict)
    admitted: Mapping[str, Admission] = field(default_factory=dict)
    rejected: Mapping[str, Rejection] = field(default_factory=dict)
    held: Mapping[str, Admission] = field(default_factory=dict)
    """What was screened and has no verdict yet."""
    damaged: Mapping[str, Damage] = field(default_factory=dict)
    """The last damage of each contribution that the store has damaged, whether it was repaired since or not."""
    damages: tuple[Damaged, ...] = ()
    """Every finding of damage since the round was closed, in order."""
    closed: Closed | None = None
    fused: Fused | None = None
    """The newest candidate; None once contributions to one that has failed at the gate were rejected."""
    gating: Gating = field(default_factory=Gating)
    published: Published | None = None
    abandoned: Abandoned | None = None
    marked_s: float = 0.0
    """The greatest age of the round that its journal speaks of, in seconds."""
    came_s: Mapping[str, float] = field(default_factory=dict)
    """Age of the round at which each admitted contribution was found, where its leader has measured it."""
    found_s: Mapping[str, float] = field(default_factory=dict)
    """The same for what was received, by who reads the journal; empty where nobody measures it."""

    @property
    def is_open(self) -> bool:
        """True while a contribution that arrives can still be fused."""
        opens = self.opened is not None and self.opened.retraction is None
        return opens and self.closed is None and not self.is_over

    @property
    def to_fuse(self) -> dict[str, Admission]:
        """What is fused once the round is closed, each with what its weight is multiplied by, by digest."""
        closed = self.closed.contributions if self.closed else ()
        return {digest: self.weighed(digest) for digest in closed if digest in self.admitted}

    def weighed(self, contribution: str) -> Admission:
        """Return one of the admitted contributions with what its weight is multiplied by, if the round says so."""
        factors = self.gating.weighed.factors if self.gating.weighed else {}
        return self.admitted[contribution].model_copy(update={"score_weight": factors.get(contribution)})

    @property
    def is_over(self) -> bool:
        """True once nothing more will happen, but for verdicts on late contributions."""
        return self.published is not None or self.abandoned is not None

    @property
    def candidates(self) -> tuple[str, ...]:
        """Digests of the manifests of all that may still be published, or is asked about to find what may be."""
        asked = (self.gating.asked, *self.gating.heard.values())
        found = [self.fused, *asked]
        return tuple(dict.fromkeys(one.manifest for one in found if one is not None and one.manifest is not None))

    @property
    def has_passed(self) -> bool:
        """True where nothing stands between what was fused and its release: no gate, or one that it has passed."""
        if self.fused is None or self.abandoned is not None:
            return False
        opened = self.opened
        if opened is None or opened.terms is None or opened.terms.gate is None or not opened.terms.gate.is_on:
            return True
        if opened.retraction is not None:  # which no gate can refuse
            return True
        decided = self.gating.of(self.fused.manifest)
        return decided is not None and decided.decision.publish

    @property
    def carried(self) -> list[Admission]:
        """What an abandoned round has left and nobody has taken back since."""
        left = self.opened.carried if self.opened else ()
        return [admission for admission in left if admission.contribution in self.admitted]

    @property
    def is_refused(self) -> bool:
        """True where the round's method would refuse the carried contributions once more: those very ones."""
        return self.opened is not None and self.opened.is_refused and len(self.carried) == len(self.opened.carried)

    @property
    def waiting(self) -> list[Received]:
        """Contributions that nobody has screened, in the order in which they were found (ties as they arrived)."""
        known = self.admitted.keys() | self.rejected.keys() | self.held.keys()
        waiting = [r for digest, r in self.received.items() if digest not in known]
        return sorted(waiting, key=lambda r: (self.found_s.get(r.contribution, 0.0), r.received_at_s, r.contribution))

    def found(self, found_s: Mapping[str, float], *, until_s: float) -> RoundState:
        """Return the state as if nothing had come after an age of the round, and in the order of this time.

        Args:
            found_s: Age of the round at which each contribution was found.
            until_s: The age; what was screened stays.
        """
        known = self.admitted.keys() | self.rejected.keys() | self.held.keys()
        kept = {d: r for d, r in self.received.items() if found_s.get(d, 0.0) <= until_s or d in known}
        return replace(self, received=kept, found_s=found_s)

    def after(self, events: Iterable[Event]) -> RoundState:
        """Return what the journal adds up to once these entries are in it, too."""
        return fold(events, onto=self)


def _without(admissions: Mapping[str, Admission], out: Mapping[str, object]) -> dict[str, Admission]:
    return {digest: admission for digest, admission in admissions.items() if digest not in out}


def _singles(
    single: dict[str, Event], event: Event, gating: Gating, admitted: Mapping[str, Admission]
) -> dict[str, Event]:
    """Return the single events after an entry: of each the first counts, but for a candidate that the gate refused."""
    fused = single.get("fused")
    has_failed = isinstance(fused, Fused) and gating.has_failed(fused.manifest)
    match event:
        case Rejected() if has_failed and any(each.contribution in admitted for each in event.rejections):
            return {name: there for name, there in single.items() if name != "fused"}
        case Fused() if has_failed:
            return single | {"fused": event}
    return {event.event: event, **single} if event.event in _SINGLE else single


def _age_at(event: Event) -> float:
    return (event.elapsed_s or 0.0) if isinstance(event, Timed) else 0.0


def fold(events: Iterable[Event], *, onto: RoundState | None = None) -> RoundState:
    """Add up a journal. Of each single event the first counts; the journal's order makes that the only one.

    Args:
        events: Its entries, in order.
        onto: What the entries before these add up to; None: there are none.
    """
    before = onto or RoundState()
    received, admitted, rejected = dict(before.received), dict(before.admitted), dict(before.rejected)
    held, came_s, marked_s = dict(before.held), dict(before.came_s), before.marked_s
    damaged, damages = dict(before.damaged), before.damages
    single: dict[str, Event] = {name: event for name in _SINGLE if (event := getattr(before, name)) is not None}
    gating = before.gating
    for event in events:
        single = _singles(single, event, gating, admitted)
        gating = gating.after(event)
        match event:
            case Received():
                received[event.contribution] = event
            case Admitted():
                admitted |= {a.contribution: a for a in event.admissions}
                came_s |= {} if event.elapsed_s is None else {a.contribution: event.elapsed_s for a in event.admissions}
            case Held():
                held |= {a.contribution: a for a in event.admissions}
            case Rejected():
                rejected |= {r.contribution: r for r in event.rejections}
            case Damaged():
                damaged |= {d.contribution: d for d in event.damages}
                damages += (event,) if "closed" in single else ()
            case Opened():
                admitted |= {a.contribution: a for a in event.carried}
        marked_s = max(marked_s, _age_at(event))
    # An admission is taken back by an operator's quarantine, or as the store has damaged it for good; by nothing else.
    admitted = _without(admitted, rejected)
    return RoundState(
        received=received, admitted=admitted, rejected=rejected, held=_without(held, {**admitted, **rejected}),
        damaged=damaged, damages=damages, came_s=came_s, marked_s=marked_s, found_s=before.found_s,
        gating=gating, **single,  # type: ignore[arg-type]
    )  # fmt: skip


_SINGLE = ("opened", "closed", "fused", "published", "abandoned")
"""Events that a journal holds once, which are fields of the state by their names."""
