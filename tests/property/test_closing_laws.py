"""Laws of closing a round: it ends whatever comes, never below its quorum, and good contributions never harm it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from coldfuse.core.closing import RoundAction, RoundFacts, decide, facts_of, in_time
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.federation import RoundRules
from coldfuse.core.past import ActiveContributor, PastRound
from coldfuse.core.round import Admitted, Event, LeaderEvent, Opened, Received, Rejected, fold
from coldfuse.core.serialization import sha256
from coldfuse.registry.round_clock import RoundClock

NAMES = ("ada", "ben", "cy", "dee", "eve")
BATCH = len(NAMES) + 3
"""Contributions that are screened in one look at most."""

seconds = st.floats(0.0, 50.0)


@st.composite
def rules_of(draw: st.DrawFn) -> RoundRules:
    return RoundRules(
        quorum=draw(st.integers(1, 4)), deadline_s=draw(st.floats(0.5, 25.0)),
        close=draw(st.sampled_from(("quorum", "active", "grace", "all"))),
        grace_s=draw(st.sampled_from((0.0, 1.0, 150.0))),
        max_grace_s=draw(st.none() | st.floats(0.5, 50.0)), spread=draw(st.floats(0.0, 5.0)),
    )  # fmt: skip


@st.composite
def openings(draw: st.DrawFn) -> Opened:
    lasts = draw(st.lists(st.none() | seconds, max_size=7))
    past = [PastRound(base_release=0, base_digest="b" * 64, last_s=last) for last in lasts]
    names = draw(st.lists(st.sampled_from((*NAMES, "zoe")), unique=True))
    active = [ActiveContributor(contributor=name, usual_s=draw(st.none() | seconds)) for name in names]
    return Opened(
        base_release=0, base_digest="b" * 64, opened_at_s=draw(st.floats(-1e9, 1e9)), past=past, active=active
    )


@st.composite
def all_facts(draw: st.DrawFn) -> RoundFacts:
    carried, active = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return RoundFacts(
        admitted=carried + draw(st.integers(0, 5)), carried=carried, is_refused=draw(st.booleans()),
        unscreened=draw(st.integers(0, 5)), active=active, missing=draw(st.integers(0, active)),
        age_s=draw(seconds), ends_s=draw(seconds), given_up_s=draw(st.none() | seconds),
    )  # fmt: skip


@given(rules_of(), all_facts())
def test_no_round_closes_below_its_quorum_nor_is_given_up_with_one(rules: RoundRules, facts: RoundFacts) -> None:
    action, reason = decide(rules, facts)
    assert reason
    assert action is not RoundAction.FUSE or facts.admitted >= rules.quorum
    assert action is not RoundAction.ABANDON or facts.admitted + facts.unscreened < rules.quorum


@given(rules_of(), all_facts(), st.booleans(), st.booleans())
def test_a_good_contribution_never_gives_a_round_up(
    rules: RoundRules, facts: RoundFacts, was_waiting: bool, was_missing: bool
) -> None:
    more = replace(
        facts, admitted=facts.admitted + 1, unscreened=max(facts.unscreened - was_waiting, 0),
        missing=max(facts.missing - was_missing, 0),
    )  # fmt: skip
    before, after = decide(rules, facts)[0], decide(rules, more)[0]
    assert before is not RoundAction.FUSE or after is not RoundAction.ABANDON
    # A round that waits because nothing new has come may end with the first that comes; others only come nearer.
    assert facts.is_idle or before is RoundAction.ABANDON or after is not RoundAction.ABANDON


@dataclass
class Simulated:
    """A round in the hands of one leader after the other, each with a clock of its own; verdicts are made up."""

    rules: RoundRules
    opened: Opened
    journal: list[Event] = field(default_factory=list)
    now_s: float = 0.0
    led_s: float = 0.0
    """Seconds for which somebody led."""
    ended: RoundAction | None = None
    good: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.journal.append(self.opened)
        self.take_over(0.0)

    def take_over(self, clock_s: float) -> None:
        """Hand the round to a machine whose clock, which counts from its own start, shows this."""
        began_s = self.now_s
        self.clock = RoundClock(lambda: clock_s + self.now_s - began_s)

    def send(self, name: str, *, is_good: bool, at_s: float) -> None:
        """Commit as a gateway does, whose clock shows whatever it shows."""
        digest = sha256(f"{name} {len(self.journal)}".encode())
        if is_good:
            self.good.add(digest)
        self.journal.append(Received(contribution=digest, contributor=name, received_at_s=at_s))

    def look(self) -> None:
        """Look as a leader does: screen what came in time, decide, and write both down."""
        state = fold(self.journal)
        look = self.clock.look(state)
        seen = in_time(state, self.opened, self.rules, age_s=look.age_s, found_s=look.found_s)
        events = self.verdicts(seen.waiting, {a.contributor for a in seen.admitted.values()}, look.age_s)
        self.journal += events
        now = in_time(state.after(events), self.opened, self.rules, age_s=look.age_s, found_s=look.found_s)
        facts = facts_of(now, self.opened, self.rules, age_s=look.age_s)
        action, _ = decide(self.rules, facts)
        if action is RoundAction.WAIT:
            if not facts.is_idle:
                self.journal.append(Admitted(admissions=(), elapsed_s=look.age_s))
            return
        assert action is RoundAction.ABANDON or len(now.admitted) >= self.rules.quorum
        self.ended = action

    def verdicts(self, waiting: list[Received], served: set[str], age_s: float) -> list[LeaderEvent]:
        events: list[LeaderEvent] = []
        for received in waiting[:BATCH]:
            if received.contribution in self.good and received.contributor not in served:
                served.add(received.contributor)
                admission = Admission(
                    contribution=received.contribution, contributor=received.contributor,
                    delta_digest=received.contribution, num_examples=1,
                )  # fmt: skip
                events.append(Admitted(admissions=(admission,), elapsed_s=age_s))
            else:
                rejection = Rejection(
                    contribution=received.contribution, contributor=received.contributor, reason="bad"
                )
                events.append(Rejected(rejections=(rejection,), elapsed_s=age_s))
        return events


Step = tuple[str, str, bool, float]
kinds = st.sampled_from(("send", "send", "look", "take over"))
steps = st.lists(st.tuples(kinds, st.sampled_from(NAMES), st.booleans(), st.floats(-1e9, 1e9)), max_size=20)


@settings(max_examples=100, deadline=None)
@given(rules_of(), openings(), steps, st.floats(0.01, 10.0))
def test_a_round_that_somebody_came_to_ends_whatever_comes_and_whatever_clocks_show(
    rules: RoundRules, opened: Opened, events: list[Step], step_s: float
) -> None:
    now = Simulated(rules=rules, opened=opened)
    now.send("ada", is_good=True, at_s=0.0)
    for kind, name, is_good, number in events:
        now.now_s += step_s
        match kind:
            case "send":
                now.send(name, is_good=is_good, at_s=number)
            case "take over":
                now.take_over(number)
        if now.ended is None:
            now.look()
    flood = 0
    while now.ended is None:  # garbage without end, from everybody
        for name in NAMES:
            now.send(name, is_good=False, at_s=-1e9 + flood)
        now.now_s += 1.0
        now.look()
        flood += 1
        assert flood <= rules.deadline_s + len(events) + 4, (
            "its deadline has passed, and all that came in time is screened"
        )
