"""Whether a journal agrees with itself, with the rules, and with what was published.

Every contribution that was received has exactly one verdict, but for one that was admitted and is taken back, for a
reason, before the round is fused; what is fused is what was admitted, all of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Set

from coldfuse.core.damage import Damaged
from coldfuse.core.federation import Terms
from coldfuse.core.gating import Evaluated
from coldfuse.core.round import Admitted, Closed, Fused, LeaderEvent, Opened, Rejected, RoundState, fold
from coldfuse.trust.provenance import Statement
from coldfuse.verification.causes import Cause
from coldfuse.verification.gate import gate_problems, weighing_problems
from coldfuse.verification.journals import SeenRound
from coldfuse.verification.releases import SeenRelease

Problem = tuple[Cause, str]
"""What is wrong, and why."""

_LATE = "one that was recorded as the round ended gets it within seconds, where an aggregator runs"


def problems_of(
    round_: SeenRound, *, before: SeenRound | None, releases: Mapping[int, SeenRelease], terms: Collection[Terms]
) -> Iterator[Problem]:
    """Return what does not agree in a round.

    Args:
        round_: The round.
        before: The round before, where it was looked at.
        releases: The releases that were looked at, by their numbers.
        terms: The terms that rounds may have been opened with.
    """
    yield from _of_opening(round_, before, releases, terms)
    yield from _of_verdicts(round_)
    yield from _of_closing(round_)
    yield from gate_problems(round_)
    yield from weighing_problems(round_)
    yield from _of_release(round_, releases)


def _of_opening(
    round_: SeenRound, before: SeenRound | None, releases: Mapping[int, SeenRelease], terms: Collection[Terms]
) -> Iterator[Problem]:
    opened = round_.state.opened
    if opened is None:
        if round_.events:
            yield Cause.GAP, "nothing says how it was opened"
        return
    if not isinstance(round_.events[0], Opened):
        yield Cause.CONTRADICTION, f"begins with {round_.events[0].event}"
    base = releases.get(opened.base_release)
    if base is not None and base.manifest.model_digest != opened.base_digest:
        yield Cause.CONTRADICTION, f"was opened on another model than that of release {opened.base_release}"
    if opened.terms is not None and opened.terms not in terms:
        yield (
            Cause.CONTRADICTION,
            (
                f"was opened with rules that no operator has made (method {opened.terms.method[:100]!r}, quorum "
                f"{opened.terms.rules.quorum})"
            ),
        )
    known = before.state.admitted if before is not None else None
    for admission in opened.carried:
        if known is not None and known.get(admission.contribution) != admission:
            yield Cause.CONTRADICTION, f"carries {_who(admission)}, which the round before has not admitted like that"


def _of_verdicts(round_: SeenRound) -> Iterator[Problem]:
    opened = round_.state.opened
    admitted = {admission.contribution for admission in opened.carried} if opened else set()
    rejected: set[str] = set()
    is_void = round_.state.abandoned is not None  # nothing was fused: who was admitted may be asked to send it again
    may_take_back = True  # until the round is closed, and then what the store has damaged, or the gate has refused
    is_closed = False
    for event in round_.events:
        is_closed |= isinstance(event, Closed)
        may_take_back = _begins_taking_back(event) or (may_take_back and not isinstance(event, Closed | Fused))
        for admission in event.admissions if isinstance(event, Admitted) else ():
            if is_closed or admission.contribution in admitted | rejected:
                when = "was admitted when the round was closed" if is_closed else "has two verdicts"
                yield Cause.CONTRADICTION, f"{_who(admission)} {when}"
            admitted.add(admission.contribution)
        for rejection in event.rejections if isinstance(event, Rejected) else ():
            if rejection.contribution in rejected or (
                rejection.contribution in admitted and not may_take_back and not is_void
            ):
                yield Cause.CONTRADICTION, f"{_who(rejection)} has two verdicts"
            rejected.add(rejection.contribution)
    yield from _of_received(round_, admitted | rejected)


def _begins_taking_back(event: LeaderEvent) -> bool:
    """Tell whether what was admitted may be rejected from here on: as it is damaged, or for what the gate found."""
    return isinstance(event, Damaged) or (isinstance(event, Evaluated) and not event.decision.publish)


def _of_received(round_: SeenRound, judged: Set[str]) -> Iterator[Problem]:
    state = round_.state
    carried = {admission.contribution for admission in state.opened.carried} if state.opened else set()
    for contribution in sorted(judged - state.received.keys() - carried):
        yield Cause.GAP, f"contribution {contribution[:12]} has a verdict, and nothing says that it was received"
    if not state.is_over:
        return
    for contribution, received in sorted(state.received.items()):
        if contribution not in judged:
            yield Cause.GAP, f"{received.contributor}'s contribution {contribution[:12]} has no verdict; {_LATE}"


def _of_closing(round_: SeenRound) -> Iterator[Problem]:
    """What is closed on is everything that was admitted by then: nobody is left out without a reason."""
    place = next((i for i, event in enumerate(round_.events) if isinstance(event, Closed)), None)
    closed = round_.state.closed
    if place is None or closed is None:
        if round_.state.fused is not None:
            yield Cause.GAP, "was fused, and nothing says what it was closed on"
        return
    admitted, listed = set(fold(round_.events[:place]).admitted), set(closed.contributions)
    for contribution in sorted(listed - admitted):
        yield Cause.CONTRADICTION, f"was closed on contribution {contribution[:12]}, which was not admitted"
    for contribution in sorted(admitted - listed):
        yield Cause.CONTRADICTION, f"was closed without contribution {contribution[:12]}, which was admitted"


def _of_release(round_: SeenRound, releases: Mapping[int, SeenRelease]) -> Iterator[Problem]:
    state = round_.state
    made = next(
        (release for release in releases.values() if release.number and release.manifest.round == round_.number), None
    )
    if state.published is not None and state.fused is None:
        yield Cause.GAP, "was published, and nothing says what was fused"
    if made is None:
        if state.published is not None and state.published.release in releases:
            other = releases[state.published.release].manifest.round
            yield Cause.CONTRADICTION, f"says that it has made release {state.published.release}, as round {other} did"
        return
    yield from _of_made(round_, made)


def _of_made(round_: SeenRound, made: SeenRelease) -> Iterator[Problem]:
    state, number = round_.state, made.number
    if state.fused is None or state.fused.manifest != made.digest:
        yield Cause.CONTRADICTION, f"release {number} is not what its journal says was fused"
    if state.published is not None and state.published.release != number:
        yield Cause.CONTRADICTION, f"says that it has made release {state.published.release}, and made {number}"
    if state.opened is not None and state.opened.base_release != made.manifest.parent:
        yield Cause.CONTRADICTION, f"was opened on release {state.opened.base_release}, not on its release's parent"
    said = state.opened.retraction if state.opened else None
    if said != made.manifest.retraction:
        yield Cause.CONTRADICTION, f"release {number} says of what was retracted something else than its journal"
    if made.manifest.retraction is None:
        yield from _of_fused(state, made)
    if made.statement is not None:
        yield from _of_statement(round_, number, made.statement)


def _of_fused(state: RoundState, made: SeenRelease) -> Iterator[Problem]:
    """What a release was made from is what its round has closed on."""
    number = made.number
    fused = {one.contribution for one in made.manifest.contributions}
    listed = set(state.closed.contributions) if state.closed else set()
    closed = listed & state.admitted.keys()
    if state.abandoned is not None:  # it never came out, and all who had contributed were told to send it again
        closed = listed & (closed | fused)
    for contribution in sorted(fused ^ closed):
        verb = "has fused" if contribution in fused else "has left out"
        yield Cause.CONTRADICTION, f"release {number} {verb} contribution {contribution[:12]}, against its journal"


def _of_statement(round_: SeenRound, number: int, statement: Statement) -> Iterator[Problem]:
    opened, said, head = round_.state.opened, statement.parameters.terms, statement.journal_head
    if opened is not None and said != opened.terms:
        yield Cause.CONTRADICTION, f"release {number} was signed with other rules than its round was opened with"
    if head is None:
        yield Cause.GAP, f"release {number} was signed, and says nothing of its journal"
    elif head not in round_.chain:
        yield Cause.CONTRADICTION, f"release {number} was signed with another journal than the one that is there"


def _who(one: object) -> str:
    return f"the contribution of {getattr(one, 'contributor', '?')} ({getattr(one, 'contribution', '')[:12]})"
