from __future__ import annotations

import pytest

from coldfuse.core.soak import Alarm, Out, SoakRule, soaked

LINE = [Out(number=number, made_at_s=100.0 * number) for number in (6, 5, 4, 3, 2, 1, 0)]


@pytest.mark.parametrize(("rounds", "found"), [(1, 5), (3, 3), (6, 0), (7, None)])
def test_a_release_has_proved_itself_after_so_many_that_were_made_of_it(rounds: int, found: int | None) -> None:
    assert soaked(LINE, SoakRule(rounds=rounds), now_s=0.0) == found


@pytest.mark.parametrize(("now_s", "found"), [(599.0, 3), (600.0, 4), (1000.0, 6), (100.0, None)])
def test_a_release_has_proved_itself_after_so_long(now_s: float, found: int | None) -> None:
    assert soaked(LINE, SoakRule(seconds=200.0), now_s=now_s) == found


def test_either_is_enough_where_both_are_asked_for() -> None:
    assert soaked(LINE, SoakRule(rounds=1, seconds=1e9), now_s=0.0) == 5
    assert soaked(LINE, SoakRule(rounds=99, seconds=1.0), now_s=601.0) == 6


def test_nothing_moves_by_itself_without_a_rule() -> None:
    assert soaked(LINE, SoakRule(), now_s=1e12) is None
    assert not SoakRule().is_on


def test_after_an_alarm_all_begins_anew() -> None:
    """Release 3 was gone back to when 4 was the newest; 6 and 5 were made since."""
    line = [Out(number=number, made_at_s=100.0 * number) for number in (6, 5, 3, 2)]
    alarm = Alarm(newest=4, at_s=450.0)
    assert soaked(line, SoakRule(rounds=2), now_s=0.0, alarm=alarm) == 3
    assert soaked(line, SoakRule(rounds=3), now_s=0.0, alarm=alarm) is None
    assert soaked(line, SoakRule(seconds=200.0), now_s=649.0, alarm=alarm) is None
    assert soaked(line, SoakRule(seconds=200.0), now_s=650.0, alarm=alarm) == 3


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"rounds": 1001}, {"seconds": 0.0}, {"seconds": float("inf")}])
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|seconds"):
        SoakRule.model_validate(wrong)
