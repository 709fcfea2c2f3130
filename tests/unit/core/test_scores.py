"""A contributor's own score: whatever its metric, more weight means better, and what cannot be is said."""

import pytest

from coldfuse.core.contribution import Score


@pytest.mark.parametrize(
    ("metric", "worse", "better", "higher"),
    [
        ("accuracy", 0.62, 0.68, True),
        ("Spearman", 0.1, 0.9, True),
        ("perplexity", 900.0, 12.0, False),
        ("perplexity", 1e300, 1e9, False),
    ],
)
def test_what_is_better_weighs_more_and_nothing_weighs_more_than_1(metric, worse, better, higher):
    low, high = (
        Score(metric=metric, before=worse, after=after, higher_is_better=higher).quality for after in (worse, better)
    )
    assert 0 <= low < high <= 1


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (Score(before=0.5, after=1.5), "its score after training is 1.5, expected 0 to 1"),
        (Score(before=-0.5, after=0.5), "its score before training is -0.5, expected 0 to 1"),
        (Score(metric="Spearman", before=0, after=7.0), "its score after training is 7, expected -1 to 1"),
        (
            Score(metric="perplexity", before=9.0, after=-2.0, higher_is_better=False),
            "its score after training is -2, expected 0 to inf",
        ),
    ],
)
def test_what_cannot_be_a_score_is_said(score, says):
    assert score.problem() == says


def test_what_can_be_a_score_is_none_of_a_problem():
    assert Score(metric="Spearman", before=-0.25, after=0.5).problem() is None
    assert Score(metric="perplexity", before=1e9, after=30.0, higher_is_better=False).problem() is None


def test_a_score_of_an_older_version_is_one_of_which_more_is_better():
    assert Score.model_validate({"metric": "accuracy", "before": 0.5, "after": 0.75}).quality == 0.75
