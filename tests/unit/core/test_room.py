from __future__ import annotations

from coldfuse.core.contribution import Admission
from coldfuse.core.room import is_full, within
from coldfuse.core.round import Admitted, Opened, Received, RoundState, fold

DIGESTS = [f"{number:064x}" for number in range(12)]
OPENED = Opened(base_release=0, base_digest="f" * 64, opened_at_s=0.0)


def admission(digest: str) -> Admission:
    return Admission(contribution=digest, contributor=f"c{digest[-2:]}", delta_digest=digest, num_examples=1)


def make_state(*, admitted: int, waiting: int) -> RoundState:
    received = [
        Received(contribution=digest, contributor=f"c{digest[-2:]}", received_at_s=float(index))
        for index, digest in enumerate(DIGESTS[: admitted + waiting])
    ]
    return fold([OPENED, Admitted(admissions=tuple(map(admission, DIGESTS[:admitted]))), *received])


def seen(state: RoundState) -> list[str]:
    return [received.contribution for received in state.waiting]


def test_what_there_is_room_for_is_seen_in_the_order_of_arrival() -> None:
    state = make_state(admitted=3, waiting=6)
    assert seen(within(state, most=100, at_once=100)) == DIGESTS[3:9]
    assert seen(within(state, most=5, at_once=100)) == DIGESTS[3:5]
    assert seen(within(state, most=100, at_once=4)) == DIGESTS[3:7]


def test_nobody_is_seen_where_the_round_is_full_and_nothing_else_of_it_changes() -> None:
    state = make_state(admitted=3, waiting=6)
    for most in (3, 2):
        limited = within(state, most=most, at_once=9)
        assert seen(limited) == []
        assert limited.admitted == state.admitted
        assert is_full(state, most=most)
    assert not is_full(state, most=4)
    assert seen(state) == DIGESTS[3:9]


def test_a_round_whose_method_has_refused_what_is_there_is_not_called_full() -> None:
    carried = tuple(map(admission, DIGESTS[:3]))
    state = fold([OPENED.model_copy(update={"carried": carried})])
    assert state.is_refused
    assert not is_full(state, most=3)
