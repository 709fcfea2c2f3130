"""What follows from scores alone: draws, places, agreement, and which scores there are."""

from __future__ import annotations

from collections import Counter

import pytest

from coldfuse.errors import UserInputError
from coldfuse.evaluation.bases import wanted_scores
from coldfuse.evaluation.ranking import SCORES, RankedModel, Score, agreement, draw, ordered, scored


def model(name: str, **means: float | None) -> RankedModel:
    scores = tuple(
        Score(name=score, why_not="none") if mean is None else scored(score, [mean], seconds=0.0)
        for score, mean in means.items()
    )
    return RankedModel(
        model=name, place=None, num_parameters=1, num_features=1, body_seconds=0.0, head_seconds=0.0, scores=scores
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_draw_has_two_of_every_class_where_there_is_room(seed: int) -> None:
    labels = [0] * 95 + [1] * 3 + [2] * 2
    counts = Counter(labels[index] for index in draw(labels, 10, seed=seed))
    assert (sum(counts.values()), min(counts[label] for label in range(3))) == (10, 2)


def test_a_draw_is_in_order_without_repeats_and_depends_on_the_seed() -> None:
    labels = [index % 3 for index in range(100)]
    one, again, other = draw(labels, 20, seed=1), draw(labels, 20, seed=1), draw(labels, 20, seed=2)
    assert one == again == sorted(set(one)) != other
    assert draw(labels, 1000, seed=1) == list(range(100))


def test_the_best_by_the_mean_of_the_places_comes_first() -> None:
    found = ordered([model("a", logme=1, knn=0.1), model("b", logme=3, knn=0.3), model("c", logme=2, knn=0.3)])
    assert [(each.model, each.place) for each in found] == [("b", 1.25), ("c", 1.75), ("a", 3.0)]


def test_a_score_that_some_model_lacks_does_not_count() -> None:
    found = ordered([model("a", logme=1, leep=-0.1), model("b", logme=2, leep=None)])
    assert [(each.model, each.place) for each in found] == [("b", 1.0), ("a", 2.0)]


def test_models_without_a_common_score_stay_in_their_order() -> None:
    found = ordered([model("b", leep=None), model("a", leep=-1.0)])
    assert [(each.model, each.place) for each in found] == [("b", None), ("a", None)]


def test_scores_agree_by_how_many_pairs_they_order_alike() -> None:
    models = [model("a", logme=1, knn=1), model("b", logme=2, knn=3), model("c", logme=3, knn=2)]
    [pair] = agreement(models)
    assert (pair.one, pair.other, pair.num_models, pair.tau) == ("logme", "knn", 3, pytest.approx(1 / 3))
    # Of the weights 1 + 1/2, 1 + 1/3 and 1/2 + 1/3, the first is of the pair that is exchanged: the two best.
    assert pair.weighted_tau == pytest.approx(2 / 11)


def test_scores_that_never_differ_agree_with_none() -> None:
    [pair] = agreement([model("a", logme=1, knn=0.5), model("b", logme=2, knn=0.5)])
    assert (pair.tau, pair.weighted_tau) == (None, None)
    assert agreement([model("a", logme=1, knn=1)])[0].tau is None


def test_seeds_give_mean_and_spread() -> None:
    score = scored("knn", [0.2, 0.4], seconds=1.0)
    assert (score.mean, score.spread) == (pytest.approx(0.3), pytest.approx(0.1414, abs=1e-4))
    assert scored("knn", [0.2], seconds=1.0).spread is None


def test_all_scores_that_the_data_allow_are_computed() -> None:
    assert wanted_scores((), is_numbers=False, has_proxy=True) == tuple(SCORES)
    assert "proxy" not in wanted_scores((), is_numbers=False, has_proxy=False)
    assert wanted_scores((), is_numbers=True, has_proxy=False) == ("logme",)
    assert wanted_scores(("nce", "logme"), is_numbers=False, has_proxy=False) == ("logme", "nce")


@pytest.mark.parametrize(
    ("name", "is_numbers", "word"),
    [("magic", False, "expected one of logme"), ("proxy", False, "--proxy FILE"), ("knn", True, "labels are numbers")],
)
def test_scores_that_cannot_be_are_refused(name: str, is_numbers: bool, word: str) -> None:
    with pytest.raises(UserInputError, match=word):
        wanted_scores((name,), is_numbers=is_numbers, has_proxy=False)
