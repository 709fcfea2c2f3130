"""Which base to start from: scores of several models on the same examples, their agreement, and their cost.

Values, and what follows from scores alone; `bases` computes the scores from models.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Annotated, Literal

from pydantic import Field
from scipy.stats import kendalltau, rankdata, weightedtau

from coldfuse.core.value import Sentence, Value
from coldfuse.training.schedule import derive_seed

FORM: Literal["coldfuse-ranking/1"] = "coldfuse-ranking/1"
"""Layout of a ranking's JSON."""

SCORES: Mapping[str, str] = {
    "logme": "one pass of the body, then an SVD",
    "h-score": "one pass of the body, then an SVD",
    "transrate": "one pass of the body, then a determinant a class",
    "knn": "one pass of the body, then all pairs of examples",
    "probe": "one pass of the body, then a linear fit on half of the examples",
    "proxy": "one pass of the body over --proxy, then a linear fit on half of it",
    "leep": "a classification head of the model's own, and one more pass",
    "nce": "a classification head of the model's own, and one more pass",
}
"""The scores, higher is better, and what each needs."""

FOR_NUMBERS = ("logme",)
"""Those that there are for numbers to predict."""

_FEWEST_OF_A_CLASS = 2
"""Examples of each class that a draw has where the data have them: a class with one says little of anything."""

Word = Annotated[str, Field(min_length=1, max_length=5000)]
"""Name of something, for people."""


class Score(Value):
    """What one score says of one model."""

    name: Word
    """Name of the score."""
    values: tuple[float, ...] = ()
    """One a seed; none where the model has no such score."""
    mean: float | None = None
    """Mean over the seeds."""
    spread: float | None = None
    """Standard deviation over the seeds, of a sample; None of fewer than two."""
    seconds: float = 0.0
    """Seconds that it took beside the passes of the body, over all seeds."""
    why_not: Sentence | None = None
    """Why the model has no such score."""


class RankedModel(Value):
    """A model and its scores."""

    model: Word
    """What its user calls it."""
    place: float | None
    """Mean of its places, 1 for the best, over the scores that all models have; None where there is none such."""
    num_parameters: int
    """Parameters of its body."""
    num_features: int
    """Features of a text."""
    body_seconds: float
    """Seconds that loading it and the passes of its body took."""
    head_seconds: float
    """Seconds that the pass of the whole model took, where it has a head of its own; else 0."""
    scores: tuple[Score, ...]
    """Its scores, in the order of `SCORES`."""

    def score(self, name: str) -> Score | None:
        """Return a score by its name; None if it was not asked for."""
        return next((score for score in self.scores if score.name == name), None)


class Agreement(Value):
    """How alike two scores order the models."""

    one: Word
    """Name of a score."""
    other: Word
    """Name of another."""
    num_models: int
    """Models that have both."""
    tau: float | None
    """Kendall's τ_b, −1…1; None of fewer than two models, or where a score is the same for all."""
    weighted_tau: float | None
    """Weighted τ (Vigna 2015, hyperbolic weights): the better the models, the more their order counts."""


class Ranking(Value):
    """Models in the order in which they promise most, with their scores."""

    form: Literal["coldfuse-ranking/1"] = FORM
    """Layout of this JSON."""
    models: tuple[RankedModel, ...]
    """Models, the best first: by their mean place, or else in the order in which they were named."""
    agreement: tuple[Agreement, ...]
    """Every pair of scores."""
    needs: dict[str, str]
    """What each score needs."""
    num_examples: int
    """Examples of each draw."""
    num_classes: int | None
    """Classes among the data; None for numbers."""
    seeds: tuple[int, ...]
    """Seeds of the draws."""
    notes: tuple[Sentence, ...] = ()
    """What should be known of it."""


def draw(labels: Sequence[object], count: int, *, seed: int) -> list[int]:
    """Draw examples at random, by their indices in order; two of every class come first where there are so many.

    >>> draw("aaaaaab", 3, seed=1)[-1], len(draw("aaab", 9, seed=1))
    (6, 4)

    Args:
        labels: Class of each example.
        count: How many are drawn; all where there are no more.
        seed: Decides which.
    """
    order = list(range(len(labels)))
    random.Random(derive_seed(seed, "rank")).shuffle(order)  # noqa: S311 - a sample, not a secret
    seen: Counter[object] = Counter()
    first: list[int] = []
    rest: list[int] = []
    for index in order:
        seen[labels[index]] += 1
        (first if seen[labels[index]] <= _FEWEST_OF_A_CLASS else rest).append(index)
    return sorted((first + rest)[:count])


def scored(name: str, values: Sequence[float], *, seconds: float) -> Score:
    """Return a score with its mean and spread over the seeds."""
    spread = stdev(values) if len(values) > 1 else None
    return Score(name=name, values=tuple(values), mean=fmean(values), spread=spread, seconds=seconds)


def ordered(models: Sequence[RankedModel]) -> tuple[RankedModel, ...]:
    """Return models with their mean places, the best first; scores that some model lacks do not count."""
    columns = [column for name in SCORES if (column := _column(models, name)) is not None]
    if not columns:
        return tuple(models)
    ranks = [rankdata([-value for value in column]) for column in columns]  # the same rank for the same value
    places = [fmean(float(rank[index]) for rank in ranks) for index in range(len(models))]
    placed = [each.model_copy(update={"place": place}) for each, place in zip(models, places, strict=True)]
    return tuple(sorted(placed, key=lambda each: each.place or 0.0))


def agreement(models: Sequence[RankedModel]) -> tuple[Agreement, ...]:
    """Return how alike every pair of scores orders the models."""
    names = [name for name in SCORES if any(_mean(model, name) is not None for model in models)]
    found = []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            pairs = [(_mean(model, one), _mean(model, other)) for model in models]
            both = [(x, y) for x, y in pairs if x is not None and y is not None]
            tau, weighted = _taus([x for x, _ in both], [y for _, y in both])
            found.append(Agreement(one=one, other=other, num_models=len(both), tau=tau, weighted_tau=weighted))
    return tuple(found)


def _taus(one: Sequence[float], other: Sequence[float]) -> tuple[float | None, float | None]:
    if len(set(one)) < 2 or len(set(other)) < 2:
        return None, None
    return float(kendalltau(one, other).statistic), float(weightedtau(one, other).statistic)


def _mean(model: RankedModel, name: str) -> float | None:
    score = model.score(name)
    return None if score is None else score.mean


def _column(models: Sequence[RankedModel], name: str) -> list[float] | None:
    means = [_mean(model, name) for model in models]
    known = [mean for mean in means if mean is not None]
    return known if len(known) == len(means) else None
