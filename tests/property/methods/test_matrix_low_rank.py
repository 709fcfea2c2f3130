"""Low-rank factors against the singular values that they leave out."""

import numpy as np
import pytest
from sampling import SHAPES, examples

from coldfuse.fusion.in_memory import fuse_one
from coldfuse.fusion.matrix.compress import LowRank, low_rank
from coldfuse.fusion.matrix.fwsvd import FWSVD
from coldfuse.fusion.recipe import Recipe


@examples(shape=SHAPES, rank=[1, 2, 9])
def test_the_error_of_low_rank_is_the_tail_of_the_singular_values(shape, rank):
    delta = np.random.default_rng(0).standard_normal(shape)
    values = np.linalg.svd(delta)[1]

    left, right, error = low_rank(delta, rank)

    assert left.shape[1] == right.shape[0] == min(rank, *shape)
    assert error == pytest.approx(np.sqrt((values[rank:] ** 2).sum() / (values**2).sum()))
    assert np.linalg.norm(delta - left @ right) == pytest.approx(error * np.linalg.norm(delta), abs=1e-12)


def test_low_rank_gives_rows_what_their_weight_says():
    delta, weights = np.random.default_rng(0).standard_normal((6, 4)), np.array([4.0, 1, 9, 1, 2, 16])
    u, s, vt = np.linalg.svd(np.diag(np.sqrt(weights)) @ delta, full_matrices=False)

    left, right, error = low_rank(delta, 2, weights)

    np.testing.assert_allclose(left @ right, np.diag(weights**-0.5) @ u[:, :2] @ np.diag(s[:2]) @ vt[:2], atol=1e-12)
    assert error == pytest.approx(np.linalg.norm(s[2:]) / np.linalg.norm(s))


def test_low_rank_ignores_rows_of_no_weight_without_dividing_by_it():
    left, right, error = low_rank(np.diag([1.0, 100.0]), 1, np.array([1.0, 0.0]))

    np.testing.assert_allclose(left @ right, np.diag([1.0, 0.0]), atol=1e-12)
    assert error == 0


def test_low_rank_compresses_the_mean():
    deltas = [np.diag([4.0, 1.0]), np.diag([2.0, 3.0])]

    np.testing.assert_allclose(fuse_one(Recipe(combiner=LowRank(rank=1)), deltas), np.diag([3.0, 0.0]), atol=1e-12)


def test_fwsvd_keeps_the_direction_of_the_rows_that_matter():
    deltas = [np.diag([3.0, 2.0, 1.0])] * 2
    fisher = [np.outer([0.0, 1.0, 2.0], np.ones(3)), np.outer([0.0, 0.0, 7.0], np.ones(3))]  # rows weigh 0, 3, 27

    fused = fuse_one(Recipe(combiner=FWSVD(rank=1)), deltas, statistics=fisher)

    np.testing.assert_allclose(fused, np.diag([0.0, 0.0, 1.0]), atol=1e-12)  # 27 · 1² > 3 · 2² > 0 · 3²


def test_fwsvd_leaves_the_smallest_weighted_error():
    rng = np.random.default_rng(5)
    delta, fisher = rng.normal(size=(6, 9)), rng.gamma(1.0, size=(6, 9)) * 1e-9
    weights = np.sqrt(fisher.sum(axis=1))[:, None]
    fused = fuse_one(Recipe(combiner=FWSVD(rank=2, scale=0.5)), [delta], statistics=[fisher]) / 0.5

    assert np.linalg.matrix_rank(fused, tol=1e-9) == 2
    left = np.linalg.svd(weights * delta, compute_uv=False)[2:]
    np.testing.assert_allclose(np.linalg.norm(weights * (delta - fused)), np.linalg.norm(left), rtol=1e-9)


def test_fwsvd_without_information_is_low_rank():
    deltas = [np.random.default_rng(seed).normal(size=(4, 5)) for seed in range(3)]
    expected = fuse_one(Recipe(combiner=LowRank(rank=2)), deltas)
    for statistics in (None, [np.zeros((4, 5))] * 3):
        fused = fuse_one(Recipe(combiner=FWSVD(rank=2)), deltas, statistics=statistics)
        np.testing.assert_allclose(fused, expected, atol=1e-12)
