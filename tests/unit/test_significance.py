"""Exact paired tests, held against scipy and the numbers of textbooks."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

from coldfuse.evaluation.significance import (
    Counts,
    Verdict,
    compare,
    count_wins,
    holm,
    sign_test,
    smallest_visible,
)


@pytest.mark.parametrize("count", [1, 2, 7, 30, 401])
def test_the_sign_test_is_the_exact_binomial_test(count: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for wins in {0, 1, count // 3, count // 2, count - 1, count}:
        assert sign_test(wins, count - wins) == pytest.approx(stats.binomtest(wins, count, 0.5).pvalue, rel=1e-9)


def test_mcnemars_own_kind_of_table() -> None:
    # Agresti, Categorical Data Analysis, 10.1: 150 and 86 of 1600 changed their mind.
    assert sign_test(86, 150) == pytest.approx(3.7e-5, rel=0.02)


def test_millions_of_examples_take_no_time_and_no_overflow() -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(1_000_000, 2_003_000, 0.5).pvalue
    assert sign_test(1_000_000, 1_003_000) == pytest.approx(expected, rel=1e-5)


def test_the_two_sides_are_alike_and_no_split_is_certain() -> None:
    for before, after in itertools.product(range(9), repeat=2):
        assert sign_test(before, after) == sign_test(after, before)
        assert 0 < sign_test(before, after) <= 1


def test_holms_own_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_what_is_smallest_visible_is_exactly_where_the_test_begins_to_see() -> None:
    for discordant in range(6, 60):
        visible = smallest_visible(100, discordant)
        assert visible is not None
        losses = round((discordant - visible * 100) / 2)
        assert sign_test(losses, discordant - losses) <= 0.05
        assert losses + 1 > discordant // 2 or sign_test(losses + 1, discordant - losses - 1) > 0.05


def test_two_hundred_examples_do_not_see_one_point() -> None:
    [result] = compare([Counts(num_examples=200, only_before=9, only_after=11)])
    assert result.verdict is Verdict.UNKNOWN
    assert result.smallest_visible == pytest.approx(0.05)
    assert "below 5 points cannot be seen" in result.reason


def test_so_few_examples_that_no_outcome_would_count_say_so() -> None:
    [result] = compare([Counts(num_examples=5, only_before=0, only_after=5)])
    assert (result.verdict, result.smallest_visible) == (Verdict.UNKNOWN, None)
    assert "no difference at all" in result.reason


def test_a_clear_difference_is_named_by_its_side_and_a_large_set_can_say_that_there_is_none() -> None:
    counts = [
        Counts(num_examples=400, only_before=4, only_after=40),
        Counts(num_examples=400, only_before=40, only_after=4),
        Counts(num_examples=50_000, only_before=100, only_after=103),
    ]
    assert [result.verdict for result in compare(counts)] == [Verdict.BETTER, Verdict.WORSE, Verdict.ALIKE]


def test_one_of_many_comparisons_needs_more_than_one_alone() -> None:
    lucky = Counts(num_examples=100, only_before=2, only_after=12)
    assert compare([lucky])[0].verdict is Verdict.BETTER
    equal = [Counts(num_examples=100, only_before=5, only_after=5)] * 9
    assert compare([lucky, *equal])[0].verdict is Verdict.UNKNOWN


def test_seeds_add_no_examples() -> None:
    before, after = [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]
    assert count_wins([before] * 10, [after] * 10) == count_wins([before], [after])
    with pytest.raises(ValueError, match="shorter"):
        count_wins([before], [after[:3]])


def test_counts_that_no_examples_have_are_refused() -> None:
    with pytest.raises(ValueError, match="expected parts"):
        Counts(num_examples=3, only_before=2, only_after=2)
    with pytest.raises(ValueError, match="expected parts"):
        Counts(num_examples=3, only_before=-1, only_after=2)


def test_it_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, coldfuse.evaluation.significance; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
