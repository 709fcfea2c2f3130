from __future__ import annotations

from itertools import permutations

import pytest
from federations import BASE_DIGEST, make_manifest

from coldfuse.core.blob import MAX_PARTS, MIN_PART_BYTES, Blob, part_bytes
from coldfuse.core.closing import RoundAction, RoundFacts, decide
from coldfuse.core.contribution import Admission, Rejection, Score, in_fusing_order
from coldfuse.core.federation import RoundRules
from coldfuse.core.round import (
    Abandoned,
    Admitted,
    Closed,
    Opened,
    Published,
    Received,
    Rejected,
    fold,
)
from coldfuse.core.screening import screen_manifest
from coldfuse.core.serialization import sha256

A, B, C = (sha256(name) for name in (b"a", b"b", b"c"))
OPENED = Opened(base_release=0, base_digest=BASE_DIGEST, opened_at_s=1.0)


def admission(contribution: str, **changes: object) -> Admission:
    values = {"contribution": contribution, "contributor": "ada", "delta_digest": contribution, "num_examples": 5}
    return Admission.model_validate(values | changes)


def received(contribution: str, at_s: float = 0.0) -> Received:
    return Received(contribution=contribution, contributor="ada", received_at_s=at_s)


def test_received_entries_fold_in_any_order() -> None:
    leader = [OPENED, Admitted(admissions=(admission(A),)), Closed(contributions=(A,), reason="")]
    states = [fold([*order, *leader]) for order in permutations([received(A), received(B), received(C)])]
    states += [fold([*leader, *order]) for order in permutations([received(A), received(B), received(C)])]
    assert all(state == states[0] for state in states)
    assert [r.contribution for r in states[0].waiting] == sorted([B, C])


def test_what_waits_is_in_the_order_of_arrival() -> None:
    state = fold([OPENED, received(A, 3.0), received(B, 1.0), received(C, 2.0)])
    assert [r.contribution for r in state.waiting] == [B, C, A]


def test_of_two_closings_the_first_counts() -> None:
    state = fold([OPENED, Closed(contributions=(A,), reason="first"), Closed(contributions=(), reason="second")])
    assert state.closed is not None
    assert state.closed.reason == "first"


def test_a_rejected_contribution_waits_no_more() -> None:
    rejection = Rejection(contribution=A, contributor="ada", reason="no")
    state = fold([OPENED, received(A), Rejected(rejections=(rejection,))])
    assert (state.waiting, state.rejected) == ([], {A: rejection})


@pytest.mark.parametrize(
    ("events", "is_open", "is_over"),
    [
        ([], False, False),
        ([OPENED], True, False),
        ([OPENED, Closed(contributions=(), reason="")], False, False),
        ([OPENED, Abandoned(reason="")], False, True),
        ([OPENED, Closed(contributions=(), reason=""), Published(release=1)], False, True),
    ],
)
def test_a_round_is_open_until_it_closes_and_over_in_the_end(events, is_open, is_over) -> None:
    state = fold(events)
    assert (state.is_open, state.is_over) == (is_open, is_over)


def test_what_was_carried_over_is_admitted() -> None:
    state = fold([OPENED.model_copy(update={"carried": (admission(A),)})])
    assert set(state.admitted) == {A}


@pytest.mark.parametrize(
    ("admitted", "age_s", "verdict", "reason"),
    [
        (0, 1e9, RoundAction.WAIT, "no contribution yet, 2 make the quorum"),
        (1, 9.9, RoundAction.WAIT, "1 of 2 contributions, 0s left"),
        (1, 10.0, RoundAction.ABANDON, "deadline passed with 1 of 2 contributions"),
        (3, 1e9, RoundAction.FUSE, "quorum reached: 3 of 2 contributions"),
    ],
)
def test_decision_follows_from_the_facts(admitted, age_s, verdict, reason) -> None:
    facts = RoundFacts(admitted=admitted, age_s=age_s)
    assert decide(RoundRules(quorum=2, deadline_s=10.0), facts) == (verdict, reason)


@pytest.mark.parametrize(
    ("left_s", "said"), [(119, "119s"), (120, "2m"), (3599, "59m"), (3600, "1h 0m"), (7048, "1h 57m")]
)
def test_what_is_left_of_a_deadline_is_said_in_the_units_that_people_give_it_in(left_s, said):
    _, reason = decide(RoundRules(quorum=2, deadline_s=90_001.0), RoundFacts(admitted=1, age_s=90_001.0 - left_s))
    assert reason == f"1 of 2 contributions, {said} left"


def test_a_round_that_only_inherited_contributions_waits_instead_of_being_abandoned_again_and_again():
    verdict, reason = decide(RoundRules(quorum=3, deadline_s=10.0), RoundFacts(admitted=2, carried=2, age_s=1e6))

    assert (verdict, reason) == (RoundAction.WAIT, "2 of 3 contributions from before, 3 make the quorum")


def test_what_a_method_refused_is_fused_only_with_more() -> None:
    rules = RoundRules(quorum=3, deadline_s=10.0)
    verdict, reason = decide(rules, RoundFacts(admitted=4, carried=4, age_s=1e6))
    assert verdict is RoundAction.WAIT
    assert "the method refused the 4 contributions from before" in reason
    assert decide(rules, RoundFacts(admitted=5, carried=4, age_s=0.0))[0] is RoundAction.FUSE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"round": 2}, "round 2 is not open yet"),
        ({"base_release": 1}, "the delta is relative to release 1"),
        ({"base_digest": A}, f"the delta is relative to release 0 ({A[:12]}), round 1 is on release 0 ("),
        ({"score": Score(before=0.0, after=1.0)}, None),
        ({"score": Score(before=0.0, after=1e300)}, "its score after training is 1e+300, expected 0 to 1"),
        ({"score": Score(before=0.0, after=-0.5)}, "its score after training is -0.5, expected 0 to 1"),
    ],
)
def test_a_manifest_for_another_round_or_base_is_told_so(changes, reason) -> None:
    told = screen_manifest(make_manifest(Blob(parts=()), **changes), OPENED, 1)
    assert told == reason if reason is None else reason in str(told)


def test_fusing_order_does_not_know_who_came_first() -> None:
    admissions = [
        admission(A, num_examples=2),
        admission(A, num_examples=1),
        admission(B),
        admission(C, contributor="z"),
    ]
    orders = [in_fusing_order(order) for order in permutations(admissions)]
    assert all(order == orders[0] for order in orders)
    assert [a.delta_digest for a in orders[0]] == sorted([A, A, B, C])


@pytest.mark.parametrize("file_bytes", [0, 1, MIN_PART_BYTES * MAX_PARTS, MIN_PART_BYTES * MAX_PARTS + 1, 1 << 50])
def test_files_of_any_size_are_few_parts(file_bytes: int) -> None:
    size = part_bytes(file_bytes)
    assert size % MIN_PART_BYTES == 0
    assert file_bytes / size <= MAX_PARTS
