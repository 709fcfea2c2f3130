"""Scores of transferability, against the originals' numbers, other formulas of the same, and hostile features.

The expected numbers were made by the originals on the data of `task`, in float64: thuml/LogME at 0ab758e
(`LogME.fit`, and `_fit_icml` for more features than examples, where `fit` leaves out the directions without features;
`LEEP`, `NCE`), and `regularized_h_score` and `transrate` of thuml/Transfer-Learning-Library.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier

from coldfuse.errors import UserInputError
from coldfuse.evaluation import transferability
from coldfuse.evaluation.transferability import (
    h_score,
    knn_accuracy,
    leep,
    logme,
    logme_of_numbers,
    nce,
    transrate,
)
from coldfuse.training.evidence import linear_models
from coldfuse.training.learnt import targets_of

Array = NDArray[np.float64]
Score = Callable[[Array, NDArray[np.int64]], float]
OF_FEATURES: dict[str, Score] = {"logme": logme, "h": h_score, "transrate": transrate, "knn": knn_accuracy}


def task(size: tuple[int, int, int], seed: int) -> tuple[Array, NDArray[np.int64], np.random.Generator]:
    """Return features whose classes lie apart, their classes, and the generator as it then is."""
    num_examples, num_features, num_classes = size
    random = np.random.default_rng(seed)
    labels = np.arange(num_examples) % num_classes
    centres = random.normal(size=(num_classes, num_features))
    return random.normal(size=(num_examples, num_features)) + 0.8 * centres[labels], labels, random


SIZES = {"many-examples": ((60, 8, 3), 0), "as-many": ((40, 40, 2), 1), "many-features": ((24, 50, 4), 2)}
ORIGINALS = {
    "many-examples": (-0.5854606845657301, -1.3755294041709607, 1.0195038102736902, 1.03368865286334),
    "as-many": (-0.3815458098311345, -2.031618279639339, 0.8067183715810686, 66.08226584466311),
    "many-features": (-0.2556840592496056, -2.144234626269359, 2.4079920776019157, 78.84850452246242),
}
HEADS = {
    "many-examples": (-1.0937326596475334, -1.032124415421925),
    "as-many": (-0.6891181878049715, -0.6374449672018505),
    "many-features": (-1.348919835232298, -1.065959302186195),
}


@pytest.mark.parametrize("name", SIZES)
def test_scores_of_features_are_those_of_the_originals(name: str) -> None:
    features, labels, random = task(*SIZES[name])
    random.random((len(labels), 5))
    targets = features[:, 0] * 2 + random.normal(size=len(labels))
    # The first paper's code iterates to 1 % of α/β, so that its evidence is a little less.
    near = 1e-3 if name == "many-features" else 1e-12
    assert logme(features, labels) == pytest.approx(ORIGINALS[name][0], abs=near)
    assert logme_of_numbers(features, targets) == pytest.approx(ORIGINALS[name][1], abs=near)
    assert h_score(features, labels) == pytest.approx(ORIGINALS[name][2], rel=1e-12)
    assert transrate(features, labels, scaled=False) == pytest.approx(ORIGINALS[name][3], rel=1e-12)


@pytest.mark.parametrize("name", SIZES)
def test_scores_of_heads_are_those_of_the_originals(name: str) -> None:
    _, labels, random = task(*SIZES[name])
    said = random.random((len(labels), 5))
    said /= said.sum(axis=1, keepdims=True)
    assert leep(said, labels) == pytest.approx(HEADS[name][0], rel=1e-12)
    assert nce(said.argmax(axis=1), labels) == pytest.approx(HEADS[name][1], rel=1e-12)


@pytest.mark.parametrize(("name", "length"), [("many-examples", 0.46301000820350063), ("many-features", 0.37632700979)])
def test_weights_are_those_of_the_original(name: str, length: float) -> None:
    features, labels, _ = task(*SIZES[name])
    _, weights = linear_models(features, targets_of(labels).T)
    assert weights.shape == (SIZES[name][0][2], SIZES[name][0][1])
    assert np.linalg.norm(weights) == pytest.approx(length, rel=1e-9)


@pytest.mark.parametrize("name", SIZES)
def test_the_evidence_is_the_largest_that_any_noise_and_prior_give(name: str) -> None:
    features, labels, _ = task(*SIZES[name])
    target = (labels == 0).astype(float)

    # log N(y; 0, I/β + F Fᵀ/α), by the eigenvectors of F Fᵀ.
    spread, vectors = np.linalg.eigh(features @ features.T)
    alpha, beta = np.meshgrid(np.geomspace(0.1, 1e4, 200), np.geomspace(0.1, 1e4, 200))
    variance = 1 / beta[..., None] + np.maximum(spread, 0) / alpha[..., None]
    evidence = -0.5 * (np.log(2 * np.pi * variance) + (vectors.T @ target) ** 2 / variance).mean(axis=-1)
    best = float(evidence.max())
    assert logme_of_numbers(features, target) == pytest.approx(best, abs=2e-3)


def test_neighbours_vote_as_those_of_another_library() -> None:
    features, labels, _ = task((90, 6, 3), 3)
    right = 0
    for index in range(len(labels)):
        others = np.arange(len(labels)) != index
        vote = KNeighborsClassifier(1, metric="cosine").fit(features[others], labels[others])
        right += int(vote.predict(features[[index]])[0] == labels[index])
    assert knn_accuracy(features, labels, num_neighbours=1) == right / len(labels)


def test_neighbours_are_the_same_however_many_are_compared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, _ = task((50, 6, 3), 4)
    whole = knn_accuracy(features, labels)
    monkeypatch.setattr(transferability, "_BLOCK_VALUES", 150)
    assert knn_accuracy(features, labels) == whole


@pytest.mark.parametrize("score", OF_FEATURES.values(), ids=OF_FEATURES)
def test_classes_that_lie_apart_score_higher(score: Score) -> None:
    features, labels, _ = task((120, 10, 4), 5)
    shuffled = np.random.default_rng(6).permutation(labels)
    assert score(features, labels) > score(features, shuffled) + 0.01


@pytest.mark.parametrize("score", OF_FEATURES.values(), ids=OF_FEATURES)
def test_the_order_of_examples_and_the_names_of_classes_do_not_matter(score: Score) -> None:
    features, labels, _ = task((60, 10, 4), 7)
    order = np.random.default_rng(8).permutation(60)
    assert score(features[order], 3 * labels[order] + 100) == pytest.approx(score(features, labels), rel=1e-9)


@pytest.mark.parametrize("score", [h_score, transrate, knn_accuracy])
def test_the_scale_of_features_does_not_matter(score: Score) -> None:
    features, labels, _ = task((60, 10, 4), 9)
    assert score(1000 * features, labels) == pytest.approx(score(features, labels), rel=1e-9)


HOSTILE = {
    "constant": lambda f: np.hstack([f, np.full((len(f), 3), 7.0)]),
    "all-constant": np.ones_like,
    "zero": np.zeros_like,
    "duplicate-columns": lambda f: np.hstack([f, f, f]),
    "duplicate-rows": lambda f: np.repeat(f[:5], 12, axis=0),
    "tiny": lambda f: f * 1e-38,
    "huge": lambda f: f * 1e38,
    "half-precision": lambda f: f.astype(np.float16),
    "one-column": lambda f: f[:, :1],
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("score", OF_FEATURES.values(), ids=OF_FEATURES)
def test_odd_features_give_a_finite_score(score: Score, change: Callable[[Array], Array]) -> None:
    features, labels, _ = task((60, 8, 3), 10)
    assert np.isfinite(score(change(features), labels))


def test_small_singular_values_are_not_lost() -> None:
    features, labels, _ = task((60, 8, 3), 11)
    scaled = features * np.geomspace(1, 1e-7, 8)  # squared, the last is below the rounding of the first
    turned = np.linalg.qr(np.random.default_rng(12).normal(size=(8, 8)))[0]
    assert logme(scaled @ turned, labels) == pytest.approx(logme(scaled, labels), rel=1e-7)


def test_a_class_with_one_example_is_a_class() -> None:
    features, _, _ = task((30, 5, 2), 13)
    labels = np.array([0] * 15 + [1] * 14 + [2])
    assert all(np.isfinite(score(features, labels)) for score in OF_FEATURES.values())


def test_a_class_that_never_occurs_counts_for_nothing() -> None:
    features, labels, _ = task((60, 8, 3), 14)
    assert logme(features, np.where(labels == 2, 9, labels)) == pytest.approx(logme(features, labels), rel=1e-12)


@pytest.mark.parametrize("score", OF_FEATURES.values(), ids=OF_FEATURES)
@pytest.mark.parametrize(
    ("features", "labels", "word"),
    [
        (np.ones((6, 2)), np.zeros(6, int), "one class"),
        (np.array([[1.0], [np.nan], [2.0]]), np.array([0, 1, 1]), "of 1 of 3 examples are not finite"),
        (np.array([[1.0], [np.inf], [2.0]]), np.array([0, 1, 1]), "not finite"),
        (np.ones((5, 2)), np.array([0, 1]), "expected 2 rows"),
        (np.ones((4, 0)), np.array([0, 1, 0, 1]), "0 features"),
        (np.ones(4), np.array([0, 1, 0, 1]), "shape"),
    ],
)
def test_what_cannot_be_scored_is_refused(score: Score, features: Array, labels: NDArray[np.int64], word: str) -> None:
    with pytest.raises(UserInputError, match=word):
        score(features, labels)


def test_a_head_that_knows_the_classes_leaves_nothing_open() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    said = np.eye(4)[labels + 1]  # other names for the same classes, and one that is never said
    assert (leep(said, labels), nce(labels + 1, labels)) == (0.0, 0.0)


def test_a_head_that_knows_nothing_leaves_all_open() -> None:
    labels = np.array([0, 1] * 4)
    assert leep(np.full((8, 3), 1 / 3), labels) == pytest.approx(-np.log(2))
    assert nce(np.zeros(8, int), labels) == pytest.approx(-np.log(2))


@pytest.mark.parametrize("said", [np.array([[-0.1, 1.1]] * 4), np.zeros((4, 2)), np.full((4, 2), np.nan)])
def test_probabilities_that_are_none_are_refused(said: Array) -> None:
    with pytest.raises(UserInputError, match=r"probabilities|not finite"):
        leep(said, np.array([0, 1, 0, 1]))
