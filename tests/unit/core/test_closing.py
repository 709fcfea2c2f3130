"""When a round with a quorum closes, and what a round knows of those before it."""

from __future__ import annotations

import pytest

from coldfuse.core.closing import RoundAction, RoundFacts, decide, facts_of, in_time
from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.federation import RoundRules, Terms
from coldfuse.core.history import hand_on
from coldfuse.core.past import ACTIVE_ROUNDS, MAX_ACTIVE, MAX_PAST, ActiveContributor, PastRound
from coldfuse.core.round import (
    Abandoned,
    Admitted,
    Closed,
    Held,
    Opened,
    Published,
    Received,
    Rejected,
    RoundState,
    fold,
)
from coldfuse.core.serialization import encode, sha256

BASE = "b" * 64


def digest(name: str) -> str:
    return sha256(name.encode())


def opened(base_release: int = 0, **changes: object) -> Opened:
    return Opened.model_validate({"base_release": base_release, "base_digest": BASE, "opened_at_s": 0.0} | changes)


def admitted(*names: str, at_s: float | None, base_release: int | None = None) -> Admitted:
    return Admitted(
        admissions=tuple(
            Admission(
                contribution=digest(name), contributor=name, delta_digest=digest(name), num_examples=1,
                base_release=base_release,
            )
            for name in names
        ),
        elapsed_s=at_s,
    )  # fmt: skip


def past(*lasts: float | None) -> tuple[PastRound, ...]:
    return tuple(PastRound(base_release=0, base_digest=BASE, last_s=last, duration_s=10.0) for last in lasts)


def active(**usual_s: float) -> tuple[ActiveContributor, ...]:
    return tuple(ActiveContributor(contributor=name, usual_s=time) for name, time in usual_s.items())


def look(rules: RoundRules, start: Opened, *events: object, age_s: float) -> tuple[RoundAction, str]:
    state = fold([start, *events])  # type: ignore[list-item]
    return decide(rules, facts_of(state, start, rules, age_s=age_s))


def test_at_once_means_that_nobody_is_waited_for() -> None:
    start = opened(active=active(ada=1.0, ben=1.0, cy=9.0))
    assert look(RoundRules(), start, admitted("ada", "ben", at_s=1.0), age_s=1.0)[0] is RoundAction.FUSE


def test_no_round_closes_sooner_than_its_operator_wants() -> None:
    rules = RoundRules(grace_s=5.0)
    found = [look(rules, opened(), admitted("ada", "ben", at_s=0.1), age_s=age_s) for age_s in (0.1, 4.9, 5.0)]
    assert [action.value for action, _ in found] == ["wait", "wait", "fuse"]
    assert found[0][1] == "quorum reached: 2 of 2 contributions, 5s left of the grace"


def test_everybody_active_is_waited_for_and_then_nobody() -> None:
    rules, start = RoundRules(close="active"), opened(active=active(ada=1.0, ben=1.0, cy=40.0))
    action, reason = look(rules, start, admitted("ada", "ben", at_s=1.0), age_s=30.0)
    assert (action, reason) == (
        RoundAction.WAIT, "quorum reached: 2 of 2 contributions, 30s left of the grace, 1 of 3 active have not come"
    )  # fmt: skip
    assert look(rules, start, admitted("ada", "ben", "cy", at_s=30.0), age_s=30.0)[0] is RoundAction.FUSE


def test_who_does_not_come_any_more_is_waited_for_by_half_as_much_again_as_it_took() -> None:
    rules, start = RoundRules(close="active"), opened(active=active(ada=1.0, ben=1.0, cy=40.0))
    events = admitted("ada", "ben", at_s=1.0)
    assert [look(rules, start, events, age_s=age_s)[0].value for age_s in (59.9, 60.0)] == ["wait", "fuse"]


def held(name: str) -> Held:
    return Held(admissions=admitted(name, at_s=1.0).admissions, elapsed_s=1.0)


def test_who_is_held_has_come() -> None:
    for close in ("active", "all"):
        rules = RoundRules.model_validate({"close": close})
        start = opened(active=active(ada=1.0, ben=1.0, cy=40.0))
        events = admitted("ada", "ben", at_s=1.0)
        assert look(rules, start, events, age_s=2.0)[0] is RoundAction.WAIT
        assert look(rules, start, events, held("cy"), age_s=2.0)[0] is RoundAction.FUSE


def test_what_is_held_makes_no_quorum() -> None:
    rules, start = RoundRules(close="all", quorum=3, deadline_s=10.0), opened(active=active(ada=1.0, ben=1.0, cy=1.0))
    events = (admitted("ada", "ben", at_s=1.0), held("cy"))
    assert look(rules, start, *events, age_s=9.0)[0] is RoundAction.WAIT
    assert look(rules, start, *events, age_s=10.0)[0] is RoundAction.ABANDON


def test_everybody_enrolled_is_waited_for_however_long_they_have_taken() -> None:
    rules = RoundRules(close="all", deadline_s=1000.0)
    start = opened(active=[ActiveContributor(contributor=name, num_rounds=0) for name in ("ada", "ben", "cy")])
    events = admitted("ada", "ben", at_s=1.0)
    assert look(rules, start, events, age_s=900.0) == (
        RoundAction.WAIT, "quorum reached: 2 of 2 contributions, 100s left of the grace, 1 of 3 active have not come"
    )  # fmt: skip
    assert look(rules, start, events, age_s=1000.0)[0] is RoundAction.FUSE
    refused = Rejected(rejections=(Rejection(contribution=digest("cy"), contributor="cy", reason="nan"),))
    assert look(rules, start, events, refused, age_s=2.0)[0] is RoundAction.FUSE


def test_nobody_is_waited_for_beyond_the_longest_grace_or_the_deadline() -> None:
    start = opened(active=active(eve=1e9), past=past(1e9, 1e9, 1e9, 1e9, 1e9))
    events = admitted("ada", "ben", at_s=1.0)
    for close in ("active", "grace", "all"):
        rules = RoundRules.model_validate({"close": close, "deadline_s": 100.0, "max_grace_s": 30.0, "grace_s": 60.0})
        assert [look(rules, start, events, age_s=age_s)[0].value for age_s in (29.9, 30.0)] == ["wait", "fuse"]
        rules = rules.model_copy(update={"max_grace_s": None})
        assert [look(rules, start, events, age_s=age_s)[0].value for age_s in (99.9, 100.0)] == ["wait", "fuse"]


@pytest.mark.parametrize(
    ("lasts", "end_s"),
    [
        ((10.0, 20.0, 30.0, 40.0), 5.0),  # too few rounds: the operator's minimum
        ((10.0, None, 20.0, 30.0, 40.0), 5.0),
        ((10.0, 20.0, 30.0, 40.0, 50.0), 60.0),  # 30 + 3 · 10
        ((30.0,) * 5, 39.0),  # 30 + 3 · 3: MAD is 0
        ((1.0,) * 5, 5.0),  # never less than the minimum
    ],
)
def test_a_grace_follows_from_past_rounds(lasts: tuple[float | None, ...], end_s: float) -> None:
    rules, start = RoundRules(close="grace", grace_s=5.0), opened(past=past(*lasts))
    events = admitted("ada", "ben", at_s=0.1)
    ages = (end_s - 0.1, end_s)
    assert [look(rules, start, events, age_s=age_s)[0].value for age_s in ages] == ["wait", "fuse"]


def test_what_came_in_time_is_screened_before_a_round_is_given_up() -> None:
    rules = RoundRules(quorum=2, deadline_s=10.0)
    assert decide(rules, RoundFacts(admitted=1, age_s=11.0, unscreened=1)) == (
        RoundAction.WAIT, "deadline passed; 1 that came in time are screened first"
    )  # fmt: skip
    assert decide(rules, RoundFacts(admitted=1, age_s=11.0))[0] is RoundAction.ABANDON
    rules = RoundRules(quorum=3, deadline_s=10.0)
    assert decide(rules, RoundFacts(admitted=1, age_s=11.0, unscreened=1))[0] is RoundAction.ABANDON


def test_what_came_after_the_end_is_not_screened_for_the_round() -> None:
    rules, start = RoundRules(quorum=3, deadline_s=10.0), opened()
    events = [Received(contribution=digest(name), contributor=name, received_at_s=0.0) for name in ("early", "late")]
    state = fold([start, admitted("ada", at_s=1.0), *events])
    found_s = {digest("early"): 9.9, digest("late"): 10.1}
    seen = in_time(state, start, rules, age_s=11.0, found_s=found_s)
    assert [received.contributor for received in seen.waiting] == ["early"]


def test_a_round_that_nobody_came_to_has_its_deadline_from_the_first_one_on() -> None:
    rules = RoundRules(quorum=2, deadline_s=10.0)
    assert look(rules, opened(), admitted("ada", at_s=500.0), age_s=509.0)[0] is RoundAction.WAIT
    assert look(rules, opened(), admitted("ada", at_s=500.0), age_s=510.0)[0] is RoundAction.ABANDON
    assert look(rules, opened(), admitted("ada", at_s=9.0), age_s=10.0)[0] is RoundAction.ABANDON


def over(start: Opened, *events: object, age_s: float = 50.0) -> RoundState:
    """Return a round that has fused all that it admitted."""
    state = fold([start, *events])  # type: ignore[list-item]
    closed = Closed(contributions=tuple(state.admitted), reason="", elapsed_s=age_s)
    return fold([start, *events, closed, Published(release=start.base_release + 1, elapsed_s=age_s)])  # type: ignore[list-item]


def test_a_round_hands_on_when_its_last_contribution_came_and_who_sent_them() -> None:
    before, who = hand_on(over(opened(), admitted("ada", at_s=3.0), admitted("ben", at_s=7.0)))
    assert before == (PastRound(base_release=0, base_digest=BASE, last_s=7.0, duration_s=50.0),)
    assert {one.contributor: one.usual_s for one in who} == {"ada": 3.0, "ben": 7.0}


def test_what_was_late_took_as_long_as_from_its_own_base_on() -> None:
    start = opened(2, past=(*past(1.0), PastRound(base_release=1, base_digest=BASE, last_s=1.0, duration_s=7.0)))
    start = start.model_copy(update={"past": (start.past[1], start.past[0])})
    _, who = hand_on(over(start, admitted("ada", at_s=1.0, base_release=1)))
    assert {one.contributor: one.usual_s for one in who} == {"ada": 8.0}


def test_who_stays_away_is_active_no_more_after_some_rounds() -> None:
    start, seen = opened(active=active(cy=2.0)), []
    for _ in range(ACTIVE_ROUNDS):
        before, who = hand_on(over(start, admitted("ada", at_s=1.0)))
        seen.append([one.contributor for one in who])
        start = opened(past=before, active=who)
    assert [("cy" in names) for names in seen] == [True] * (ACTIVE_ROUNDS - 1) + [False]


def test_an_abandoned_round_hands_on_what_it_was_handed() -> None:
    start = opened(past=past(1.0), active=active(cy=2.0))
    assert hand_on(fold([start, admitted("ada", at_s=1.0), Abandoned(reason="")])) == (start.past, start.active)


def test_a_round_of_a_version_that_measured_nothing_hands_on_its_base_alone() -> None:
    events = [admitted("ada", at_s=None), Closed(contributions=(digest("ada"),), reason=""), Published(release=1)]
    before, who = hand_on(fold([opened(), *events]))
    assert before == (PastRound(base_release=0, base_digest=BASE),)
    assert who == (ActiveContributor(contributor="ada"),)


def test_what_travels_on_is_bounded_and_names_displace_nobody() -> None:
    start, sizes = opened(active=active(zoe=1.0)), []
    for number in range(30):
        crowd = [f"a{number:02}{index:04}" for index in range(MAX_ACTIVE)]
        before, who = hand_on(over(start, admitted("zoe", *crowd, at_s=1.0)))
        start = opened(number + 1, past=before, active=who)
        sizes.append(len(encode(start)))
        assert "zoe" in {one.contributor for one in who}
    assert (len(start.past), len(start.active)) == (MAX_PAST, MAX_ACTIVE)
    assert max(sizes) < 200_000
    assert sizes[-1] <= sizes[MAX_PAST] + 100


@pytest.mark.parametrize(
    ("late", "base_release", "staleness"),
    [("drop", 4, None), ("drop", 5, 0), ("next", 4, 1), ("next", 3, None), ("rebase", 3, 2), ("rebase", 2, None)],
)
def test_a_round_takes_the_bases_that_its_rules_take(late: str, base_release: int, staleness: int | None) -> None:
    rules = RoundRules.model_validate({"late": late, "max_staleness": 2})
    before = tuple(PastRound(base_release=number, base_digest=BASE) for number in range(4, -1, -1))
    start = opened(5, terms=Terms(rules=rules, method="mean"), past=before)
    assert start.staleness_of(base_release, BASE) == staleness
    assert start.staleness_of(base_release, "0" * 64) is None


def test_who_comes_last_is_screened_although_nobody_is_waited_for_any_more() -> None:
    rules, start = RoundRules(close="active"), opened(active=active(ada=1.0, ben=1.0, cy=40.0))
    last = Received(contribution=digest("cy"), contributor="cy", received_at_s=0.0)
    state = fold([start, admitted("ada", "ben", at_s=1.0), last])
    seen = in_time(state, start, rules, age_s=41.0, found_s={digest("cy"): 40.0})
    assert [received.contributor for received in seen.waiting] == ["cy"]
    assert decide(rules, facts_of(seen, start, rules, age_s=41.0))[0] is RoundAction.WAIT


def test_entries_and_settings_of_a_version_before_mean_what_they_meant() -> None:
    terms = {"rules": {"quorum": 2, "deadline_s": 60.0}, "method": "mean"}
    start = {"event": "opened", "base_release": 3, "base_digest": BASE, "opened_at_s": 1.8e9, "terms": terms}
    old = Opened.model_validate(start)
    assert (old.past, old.active) == ((), ())
    assert (old.rules.close, old.rules.grace_s, old.rules.oldest) == ("quorum", 0.0, 0)
    assert old.staleness_of(2, BASE) is None
    events = admitted("ada", "ben", at_s=None)
    assert look(old.rules, old, events, age_s=0.0)[0] is RoundAction.FUSE
    assert fold([old, events]).marked_s == 0.0
