from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldfuse.core.contribution import Measured
from coldfuse.core.lengths import MAX_KINDS, MAX_PAST, Bounds, even_out, limit_of, limits_of, longest_taken, remember
from coldfuse.core.screening_rules import ScreeningRules

RULES = ScreeningRules()
always = settings(max_examples=50, derandomize=True, deadline=None, database=None)
LENGTHS = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30)


def measured(norm: float, *layers: float) -> Measured:
    return Measured(kind="full, dense", norm=norm, layers=layers, num_changed=1000)


def why_each(norms: list[float], rules: ScreeningRules = RULES) -> list[str | None]:
    kind = [measured(norm) for norm in norms]
    bounds = Bounds.of(kind, rules)
    return [bounds.why_too_long(each) if bounds else None for each in kind]


@always
@given(LENGTHS)
def test_nothing_within_three_medians_is_ever_too_long(norms: list[float]) -> None:
    for norm, reason in zip(norms, why_each(norms), strict=True):
        assert reason is None or norm > 3 * median(norms)


@always
@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=20), st.data())
def test_a_minority_that_is_a_thousand_times_too_long_is_always_found(honest: list[float], data) -> None:
    """However the honest lengths lie; they themselves may differ by factors."""
    num_bad = data.draw(st.integers(1, len(honest) - 1).filter(lambda n: len(honest) + n >= RULES.enough))
    least = 1000 * max(honest)
    bad = [least * data.draw(st.floats(1, 1e6)) for _ in range(num_bad)]
    reasons = why_each([*honest, *bad])
    assert all(reasons[len(honest) :])
    assert longest_taken([*honest, *bad], RULES) <= 13 * max(honest)


@always
@given(LENGTHS, st.randoms())
def test_the_order_of_the_others_does_not_count(norms: list[float], rng: random.Random) -> None:
    shuffled = rng.sample(norms, len(norms))
    assert longest_taken(norms, RULES) == longest_taken(shuffled, RULES)
    assert limit_of(norms, [], RULES) == limit_of(shuffled, [], RULES)


@always
@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=20), st.floats(1e-3, 1e3))
def test_lengths_have_no_unit(norms: list[float], unit: float) -> None:
    scaled = longest_taken([norm * unit for norm in norms], RULES)
    assert scaled == pytest.approx(longest_taken(norms, RULES) * unit)


def test_fewer_than_enough_are_not_judged_by_each_other() -> None:
    assert why_each([1.0, 1.0, 1.0, 1e9]) == [None] * 4
    assert why_each([1.0, 1.0, 1.0, 1.0, 1e9])[4] is not None
    assert why_each([1.0, 1.0, 1.0, 1.0, 1e9], ScreeningRules.off()) == [None] * 5


def test_the_reason_says_what_came_and_what_is_taken() -> None:
    reason = why_each([1.0, 1.0, 1.0, 1.0, 20.0])[4]
    assert reason == (
        "its delta is 20 long, the median of 5 in this round is 1, and at most 3 is taken; train fewer steps or at a "
        "lower learning rate"
    )


def test_one_layer_alone_can_be_too_long() -> None:
    kind = [measured(1.0, 0.8, 0.6)] * 4 + [measured(2.9, 0.1, 2.85)]
    bounds = Bounds.of(kind, RULES)
    assert bounds is not None
    assert "its delta in layer 0 is 2.85 long, the median of 5 in this round is 0.6" in str(
        bounds.why_too_long(kind[4], ["the embeddings", "layer 0"])
    )
    assert [bounds.why_too_long(each) for each in kind[:4]] == [None] * 4


def test_a_layer_that_others_leave_alone_may_move() -> None:
    """Rows of an embedding move where a task's words are: that is no attack."""
    kind = [measured(1.0, 0.0, 1.0)] * 4 + [measured(1.2, 0.7, 1.0)]
    bounds = Bounds.of(kind, RULES)
    assert bounds is not None
    assert bounds.why_too_long(kind[4]) is None


def test_few_are_shortened_by_past_rounds_and_three_by_themselves() -> None:
    assert limit_of([1.0, 1e9], [2.0, 2.0, 4.0], RULES) == 6.0
    assert limit_of([1.0, 1.0, 1e9], [], RULES) == 3.0
    assert limit_of([1.0, 1e9], [], RULES) is None
    assert limit_of([1.0] * 4 + [1e9], [7.0], RULES) == 3.0


def test_a_word_that_nobody_else_uses_lets_no_delta_be_of_any_length() -> None:
    """What was trained is a word of the contributor's."""
    past = {"full, dense": (1.0,) * MAX_PAST}
    lie = {"liar's own, dense": [1e9]}
    assert limits_of(lie | {"full, dense": [1.0]}, past, RULES) == {"full, dense": 3.0, "liar's own, dense": 30.0}
    assert limits_of(lie, past, RULES) == {"liar's own, dense": 30.0}
    assert limits_of(lie | {"full, dense": [1.0, 1.0, 1.1]}, {}, RULES)["liar's own, dense"] == 30.0
    assert limits_of(lie | {"full, dense": [1.0]}, {}, RULES) == {"full, dense": None, "liar's own, dense": None}
    poisoned = past | {f"liar's {n}": (1e9,) for n in range(5)}
    assert limits_of(lie, poisoned, RULES) == {"liar's own, dense": 30.0}


def test_no_words_of_contributors_make_what_is_remembered_grow_without_end() -> None:
    past: dict[str, tuple[float, ...]] = {"full, dense": (1.0,)}
    for number in range(4):
        past = remember(past, {f"word {number}.{n}": [2.0] for n in range(100)} | {"full, dense": [1.0] * 3})
    assert len(past) == MAX_KINDS
    assert past["full, dense"] == (1.0,) * 5


@always
@given(st.lists(st.floats(0, 1e12), min_size=2, max_size=20))
def test_no_weight_takes_the_whole(weights: list[float]) -> None:
    evened = even_out(weights, RULES)
    counting = sorted(weight for weight in evened if weight)
    assert all(new <= old for new, old in zip(evened, weights, strict=True))
    if counting:
        assert counting[-1] <= 3 * counting[(len(counting) - 1) // 2]
        assert [new > 0 for new in evened] == [old > 0 for old in weights]


def test_weights_that_differ_little_stay_as_they_are() -> None:
    assert even_out([100.0, 300.0], RULES) == (100.0, 300.0)
    assert even_out([100.0, 2.0**40], ScreeningRules.off()) == (100.0, 2.0**40)


@always
@given(st.lists(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4), min_size=1, max_size=40))
def test_past_rounds_are_remembered_and_forgotten(rounds: list[list[float]]) -> None:
    past: dict[str, tuple[float, ...]] = {"other": (1.0,)}
    for lengths in rounds:
        past = remember(past, {"full": lengths, "none": []})
    assert past == {"other": (1.0,), "full": tuple(median(lengths) for lengths in rounds)[-MAX_PAST:]}
