from __future__ import annotations

import pytest

from coldfuse.core.release import Channel
from coldfuse.core.rollback import Line, Rollback, is_ended
from coldfuse.core.serialization import decode, encode

ZERO, ONE = "0" * 64, "1" * 64


def step(**different: object) -> Rollback:
    values: dict[str, object] = {
        "number": 1, "release": 2, "left": 5, "left_manifest": ONE, "newest": 5, "round": 7, "at_s": 1.0,
        "reason": "worse", "by": "ada",
    }  # fmt: skip
    return Rollback.model_validate(values | different)


def channel(**different: object) -> Channel:
    return Channel.model_validate({"release": 2, "round": 3, "manifest": ZERO, "model_digest": ZERO} | different)


def test_a_channel_that_never_stepped_back_is_written_as_it_always_was() -> None:
    assert encode(channel()) == (
        b'{"manifest":"' + ZERO.encode() + b'","model_digest":"' + ZERO.encode() + b'","release":2,"round":3}'
    )


def test_a_step_back_is_read_again_as_it_was_written() -> None:
    there = channel(rollback=step())
    assert decode(Channel, encode(there), what="a channel") == there
    assert b"before" not in encode(there)


def test_numbers_and_rounds_go_on_after_what_there_was_before_the_step() -> None:
    assert (channel().newest, channel().last_round) == (2, 3)
    assert (channel(rollback=step()).newest, channel(rollback=step()).last_round) == (5, 7)
    later = channel(release=6, round=9, rollback=step())
    assert (later.newest, later.last_round) == (6, 9)


LATEST = (2, ZERO, 3)


@pytest.mark.parametrize(
    ("number", "base", "latest", "ends"),
    [
        (7, (5, ONE), LATEST, True),  # it was running
        (6, None, LATEST, True),  # nobody knows how it was opened
        (8, (2, ZERO), LATEST, False),  # the first one after it
        (8, (5, ONE), LATEST, True),  # opened by who had not heard of it
        (8, (2, ZERO), (6, ONE, 8), False),  # it has made the release that is the latest now
        (9, (6, ONE), (6, ONE, 8), False),
        (9, (2, ZERO), (6, ONE, 8), True),
    ],
)
def test_a_round_ends_with_the_base_that_it_is_on(
    number: int, base: tuple[int, str] | None, latest: tuple[int, str, int], ends: bool
) -> None:
    assert is_ended(step(), round_number=number, base=base, latest=latest) is ends


def test_what_the_latest_release_was_not_made_of_is_off_its_line() -> None:
    history = [(7, 6), (6, 2), (5, 4), (4, 3), (3, 2), (2, 1), (1, 0), (0, None)]
    line = Line(7)
    assert [number for number, parent in history if not line.has(number, parent)] == [5, 4, 3]
    back = Line(2)
    assert [number for number, parent in history if not back.has(number, parent)] == [7, 6, 5, 4, 3]


def test_a_reason_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most 500"):
        step(reason="x" * 501)
