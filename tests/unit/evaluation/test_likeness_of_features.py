"""Similarity of features: against the reference implementations' numbers, by its invariances, and on odd features.

The expected numbers were made on the data of `related` by google-research's representation_similarity
(`feature_space_linear_cka`) and google/svcca at 12f603b (`get_cca_similarity`; `compute_pwcca` with directions that are
whitened, as the paper has them and as that repository's `cca_dirns1` are: its own weights leave that out).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.spatial
from numpy.typing import NDArray

from coldfuse.errors import UserInputError
from coldfuse.evaluation.similarity import aligned, cka, procrustes, products, pwcca, svcca

Array = NDArray[np.float64]
Measure = Callable[[Array, Array], float | None]
MEASURES: dict[str, Measure] = {"cka": cka, "svcca": svcca, "pwcca": pwcca, "procrustes": procrustes}
SAME = {"cka": 1.0, "svcca": 1.0, "pwcca": 1.0, "procrustes": 0.0}


def related(size: tuple[int, int, int], seed: int) -> tuple[Array, Array]:
    """Return two sets of centred features, the second made of the first with noise."""
    num_examples, width, other = size
    random = np.random.default_rng(seed)
    x = random.normal(size=(num_examples, width))
    mixing = random.normal(size=(width, other))
    y = x @ mixing + 2 * random.normal(size=(num_examples, other))
    return x - x.mean(axis=0), y - y.mean(axis=0)


def rotation(width: int, seed: int) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


@pytest.mark.parametrize(
    ("size", "seed", "debiased", "biased"),
    [
        ((40, 6, 4), 0, 0.36811138817831396, 0.4320213966365438),
        ((30, 5, 5), 1, 0.2911678920187422, 0.38644089504612916),
        ((20, 30, 25), 2, 0.6807428370700817, 0.8174180251542753),
    ],
)
def test_cka_is_that_of_the_reference(size: tuple[int, int, int], seed: int, debiased: float, biased: float) -> None:
    x, y = related(size, seed)
    assert cka(x, y) == pytest.approx(debiased, rel=1e-10)
    assert cka(x, y, debiased=False) == pytest.approx(biased, rel=1e-10)


def test_canonical_correlations_are_those_of_the_reference() -> None:
    x, y = related((40, 6, 4), 0)
    assert svcca(x, y, share=1.0) == pytest.approx(0.7066713265348572, rel=1e-10)
    assert pwcca(y, x, share=1.0) == pytest.approx(0.7573639528586616, rel=1e-10)
    assert pwcca(x, y, share=1.0) == pytest.approx(0.7573639528586616, rel=1e-10)  # weighed by the narrower
    x, y = related((30, 5, 5), 1)
    assert svcca(x, y, share=1.0) == pytest.approx(0.605870091788019, rel=1e-10)
    assert pwcca(y, x, share=1.0) == pytest.approx(0.6687540064172967, rel=1e-10)


def test_procrustes_is_that_of_another_library() -> None:
    x, y = related((30, 5, 5), 1)
    distance = procrustes(x, y)
    assert distance is not None
    # Theirs also scales one to fit the other: 1 − (1 − d)².
    assert 1 - (1 - distance) ** 2 == pytest.approx(scipy.spatial.procrustes(x, y)[2], rel=1e-10)


@pytest.mark.parametrize("name", MEASURES)
def test_features_are_as_like_themselves_as_can_be(name: str) -> None:
    x, _ = related((50, 7, 3), 3)
    assert MEASURES[name](x, x) == pytest.approx(SAME[name], abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_scale_and_place_do_not_matter(name: str) -> None:
    x, y = related((50, 7, 3), 4)
    assert MEASURES[name](300 * x + 5, y - 9) == pytest.approx(MEASURES[name](x, y), rel=1e-9)


@pytest.mark.parametrize("name", ["cka", "svcca", "procrustes"])
def test_a_rotation_does_not_matter(name: str) -> None:
    x, y = related((50, 7, 4), 5)
    turned = MEASURES[name](x @ rotation(7, 6), y @ rotation(4, 7))
    assert turned == pytest.approx(MEASURES[name](x, y), rel=1e-9)


@pytest.mark.parametrize("name", ["cka", "svcca", "procrustes"])
def test_which_comes_first_does_not_matter(name: str) -> None:
    x, y = related((50, 7, 4), 8)
    assert MEASURES[name](y, x) == pytest.approx(MEASURES[name](x, y), rel=1e-9)


def test_canonical_correlations_are_the_same_for_any_invertible_map() -> None:
    x, y = related((60, 4, 4), 9)
    mixed = x @ np.random.default_rng(10).normal(size=(4, 4))
    assert svcca(mixed, y, share=1.0) == pytest.approx(svcca(x, y, share=1.0), rel=1e-9)
    assert cka(mixed, y) != pytest.approx(cka(x, y), rel=0.01)


def test_a_rotation_is_at_no_distance_also_with_more_features_than_examples() -> None:
    x, _ = related((12, 40, 3), 11)
    assert procrustes(x, x @ rotation(40, 12)) == pytest.approx(0.0, abs=1e-12)
    assert procrustes(x, np.hstack([x, np.zeros((12, 5))])) == pytest.approx(0.0, abs=1e-12)


def test_without_its_bias_cka_of_independent_features_is_near_zero() -> None:
    random = np.random.default_rng(13)
    pairs = [(random.normal(size=(40, 60)), random.normal(size=(40, 60))) for _ in range(20)]
    assert abs(np.mean([cka(x, y) or 0.0 for x, y in pairs])) < 0.01
    assert np.mean([cka(x, y, debiased=False) or 0.0 for x, y in pairs]) > 0.5


def test_batches_add_up_to_what_all_examples_give() -> None:
    x, y = related((2000, 6, 5), 14)
    summed = sum((products([x[i : i + 50], y[i : i + 50]]) for i in range(0, 2000, 50)), np.zeros((2, 2)))
    assert aligned(summed)[0][1] == pytest.approx(cka(x, y), abs=0.01)


def test_all_sets_at_once_are_compared_as_each_pair_is() -> None:
    x, y = related((40, 6, 4), 15)
    z = np.tanh(x[:, :2])
    found = aligned(products([x, y, z]))
    assert [found[0][1], found[0][2], found[1][2]] == pytest.approx([cka(x, y), cka(x, z), cka(y, z)])


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("constant", [np.zeros((20, 3)), np.full((20, 3), 0.1)])
def test_features_that_never_differ_have_no_answer(name: str, constant: Array) -> None:
    x, _ = related((20, 4, 3), 16)
    assert MEASURES[name](x, constant) is None
    assert MEASURES[name](constant, constant) is None


def test_as_many_directions_as_examples_have_no_canonical_correlation() -> None:
    x, y = related((20, 12, 8), 17)
    assert (svcca(x, y, share=1.0), pwcca(x, y, share=1.0)) == (None, None)
    assert svcca(x[:, :11], y, share=1.0) is not None


@pytest.mark.parametrize("scale", [1e-30, 3e38])
@pytest.mark.parametrize("name", MEASURES)
def test_the_smallest_and_largest_numbers_of_float32_have_an_answer(name: str, scale: float) -> None:
    x, y = related((50, 7, 3), 18)
    unit = (x / np.abs(x).max()).astype(np.float32)
    assert MEASURES[name](unit * np.float32(scale), y) == pytest.approx(MEASURES[name](unit, y), rel=1e-5)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("y", "word"),
    [
        (np.full((20, 2), np.nan), "not finite"),
        (np.ones((19, 2)), "20 and of 19"),
        (np.ones(20), "shape"),
        (np.ones((20, 0)), "shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(name: str, y: Array, word: str) -> None:
    x, _ = related((20, 4, 3), 19)
    with pytest.raises(UserInputError, match=word):
        MEASURES[name](x, y)


def test_cka_of_three_examples_is_refused() -> None:
    with pytest.raises(UserInputError, match="needs 4"):
        cka(np.eye(3), np.eye(3))
