"""RegMean against least squares, and against its formula with a plain inverse."""

import numpy as np
import pytest
import torch
from sampling import SHAPES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.block import Matrix, TensorInfo
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.informed.regmean import RegMean
from coldfuse.fusion.recipe import Recipe


def draw(shape, count=3, seed=0, tokens=50):
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((tokens, shape[1])) @ rng.standard_normal((shape[1],) * 2) for _ in range(count)]
    return [rng.standard_normal(shape) for _ in range(count)], [x.T @ x / len(x) for x in inputs]


def fuse(deltas, grams, weights=None, **params):
    return fuse_one(Recipe(combiner=RegMean(**params)), deltas, statistics=grams, weights=weights)


def naive(deltas, grams, weights, a):
    left, right = 0, 0
    for delta, gram, weight in zip(deltas, grams, weights, strict=True):
        reduced = np.array([[g if i == j else a * g for j, g in enumerate(row)] for i, row in enumerate(gram)])
        left = left + weight * reduced
        right = right + weight * reduced @ delta.T
    return (np.linalg.inv(left) @ right).T


@examples(shape=SHAPES, a=[0.0, 0.1, 0.9, 1.0], weights=[[1.0, 1.0, 1.0], [1000.0, 3.0, 70.0]], scale=[1.0, 1e-06])
def test_it_equals_the_published_formula(shape, a, weights, scale):
    deltas, grams = draw(shape)

    fused = fuse([scale * delta for delta in deltas], grams, weights, off_diagonal=a)

    np.testing.assert_allclose(fused, scale * naive(deltas, grams, weights, a), rtol=0, atol=1e-9 * scale)


def test_solutions_of_least_squares_fuse_to_the_solution_of_all_data():
    rng = np.random.default_rng(1)
    sizes, base = [40, 15, 300], rng.standard_normal((4, 6))
    inputs = [rng.standard_normal((n, 6)) + rng.standard_normal(6) for n in sizes]
    outputs = [rng.standard_normal((n, 4)) for n in sizes]
    solutions = [np.linalg.lstsq(x, y)[0].T for x, y in zip(inputs, outputs, strict=True)]
    pooled = np.linalg.lstsq(np.vstack(inputs), np.vstack(outputs))[0].T
    grams = [x.T @ x / len(x) for x in inputs]

    fused = fuse([w - base for w in solutions], grams, [float(n) for n in sizes], off_diagonal=1.0)

    np.testing.assert_allclose(base + fused, pooled, atol=1e-9)
    assert np.abs(pooled - np.mean(solutions, axis=0)).max() > 0.01


@pytest.mark.parametrize("a", [0.0, 0.1, 1.0])
def test_equal_grams_give_the_weighted_mean(a):
    deltas, grams = draw((4, 3))

    for gram in (np.eye(3), grams[0]):
        fused = fuse(deltas, [gram] * 3, [1.0, 2.0, 5.0], off_diagonal=a)
        np.testing.assert_allclose(fused, (deltas[0] + 2 * deltas[1] + 5 * deltas[2]) / 8, atol=1e-12)


def test_without_off_diagonals_every_input_is_averaged_by_its_second_moment():
    deltas, grams = draw((4, 3))

    fused = fuse(deltas, grams, off_diagonal=0.0)

    for j in range(3):
        moments = [gram[j, j] for gram in grams]
        expected = sum(m * delta[:, j] for m, delta in zip(moments, deltas, strict=True)) / sum(moments)
        np.testing.assert_allclose(fused[:, j], expected, atol=1e-12)


def test_the_scale_of_all_grams_does_not_matter():
    deltas, grams = draw((4, 3))

    for scale in (1e-30, 1e30):
        fused = fuse(deltas, [scale * gram for gram in grams])
        np.testing.assert_allclose(fused, fuse(deltas, grams), atol=1e-12)


def test_inputs_may_differ_by_many_orders_of_magnitude():
    deltas, grams = draw((4, 3))
    unit = np.array([1e-8, 1.0, 1e8])

    fused = fuse(deltas, [gram * unit * unit[:, None] for gram in grams], off_diagonal=1.0)

    np.testing.assert_allclose(fused * unit, naive([d * unit for d in deltas], grams, [1, 1, 1], 1.0), rtol=1e-6)


@pytest.mark.parametrize("a", [0.1, 1.0])
def test_an_input_that_is_zero_everywhere_gets_the_mean(a):
    deltas, grams = draw((4, 3))
    for gram in grams:
        gram[1, :] = gram[:, 1] = 0

    fused = fuse(deltas, grams, off_diagonal=a)

    np.testing.assert_allclose(fused[:, 1], np.mean(deltas, axis=0)[:, 1], atol=1e-12)
    alone = fuse([d[:, [0, 2]] for d in deltas], [g[np.ix_([0, 2], [0, 2])] for g in grams], off_diagonal=a)
    np.testing.assert_allclose(fused[:, [0, 2]], alone, atol=1e-12)


def test_fewer_tokens_than_inputs_are_refused_and_a_ridge_settles_them():
    deltas, grams = draw((2, 7), tokens=2)

    with pytest.raises(FusionError, match=r"w: .* singular .* ridge"):
        fuse(deltas, grams, off_diagonal=1.0)
    assert np.isfinite(fuse(deltas, grams, off_diagonal=1.0, ridge=1e-6)).all()
    assert np.isfinite(fuse(deltas, grams)).all()


def test_a_gram_that_is_no_sum_of_squares_is_refused():
    with pytest.raises(FusionError, match="singular"):
        fuse([np.ones((2, 2))], [np.array([[1.0, 2.0], [2.0, 1.0]])], off_diagonal=1.0)


def test_a_ridge_pulls_towards_the_mean():
    deltas, grams = draw((4, 3))
    mean = np.mean(deltas, axis=0)

    apart = [np.abs(fuse(deltas, grams, ridge=ridge) - mean).max() for ridge in (0.0, 0.1, 1.0, 1e9)]

    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-8 < apart[0]


def test_what_has_no_gram_gets_the_weighted_mean():
    rng = np.random.default_rng(0)
    deltas = [{"w": rng.standard_normal((3, 2)), "b": rng.standard_normal(3)} for _ in range(2)]
    base = {"w": np.zeros((3, 2)), "b": np.zeros(3)}

    fused = InMemory(recipe=Recipe(combiner=RegMean()), base=base, deltas=deltas, weights=[1.0, 3.0]).fuse()

    for name in base:
        np.testing.assert_allclose(fused[name], (deltas[0][name] + 3 * deltas[1][name]) / 4, atol=1e-15)


def model(deltas, grams, weights=None):
    statistics = [{} if gram is None else {"w": gram} for gram in grams]
    changed = [{"w": delta} for delta in deltas]
    base = {"w": np.zeros(deltas[0].shape)}
    return InMemory(
        recipe=Recipe(combiner=RegMean()), base=base, deltas=changed, statistics=statistics, weights=weights
    )


def test_who_has_no_gram_counts_as_one_whose_inputs_are_like_the_others_on_average():
    deltas, grams = draw((4, 3))
    weights = [1.0, 5.0, 3.0]

    fused = model(deltas, [grams[0], None, grams[2]], weights).fuse()["w"]

    average = (grams[0] + 3 * grams[2]) / 4
    np.testing.assert_allclose(fused, naive(deltas, [grams[0], average, grams[2]], weights, 0.1), rtol=1e-9)


def test_a_contribution_of_weight_zero_needs_no_gram_and_changes_nothing():
    deltas, grams = draw((4, 3))

    fused = model(deltas, [grams[0], None, grams[2]], [1.0, 0.0, 1.0]).fuse()["w"]

    np.testing.assert_array_equal(fused, fuse(deltas[::2], grams[::2]))


def test_a_gram_of_another_size_is_refused():
    deltas, grams = draw((4, 3))

    with pytest.raises(
        FusionError, match=r"expected a Gram matrix of shape \(3, 3\).*got \(4, 4\) from contribution 2"
    ):
        model(deltas, [*grams[:2], np.eye(4)]).fuse()


@examples(shape=SHAPES)
def test_one_contribution_comes_back_and_zeros_stay_zero(shape):
    deltas, grams = draw(shape, count=1)

    np.testing.assert_allclose(fuse(deltas, grams), deltas[0], atol=1e-12)
    assert not fuse([np.zeros(shape)] * 2, grams * 2).any()


@examples(shape=SHAPES, dtype=[np.float64, np.float32])
def test_numpy_and_torch_agree(shape, dtype):
    deltas, grams = draw(shape)
    grams = [gram.astype(dtype) for gram in grams]
    info = TensorInfo(
        tensor="w",
        shape=shape,
        weights_C=np.ones(3),
        present_C=np.ones(3, np.bool_),
        keys_C=np.zeros(3, np.uint64),
        num_elements=deltas[0].size,
    )
    matrix = Matrix(
        info=info, read_delta=lambda i: torch.tensor(deltas[i]), read_statistic=lambda i: torch.tensor(grams[i])
    )

    fused = RegMean().fuse_matrix(matrix)

    assert fused.dtype == torch.float64
    np.testing.assert_allclose(fused.numpy(), fuse(deltas, grams), atol=1e-10)
    with pytest.raises(FusionError, match="singular"):
        RegMean(off_diagonal=1.0).fuse_matrix(
            Matrix(info=info, read_delta=matrix.read_delta, read_statistic=lambda i: torch.ones(shape[1], shape[1]))
        )
