"""Products of factors: what their sum is, what a cut keeps of it, and why factors are not averaged."""

import numpy as np
import pytest

from coldfuse.adapters.refactored import cut_matrix, cut_stack
from coldfuse.errors import FusionError

RANK = 3


def factors(seed, rows=12, columns=9, rank=RANK):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))


def stack(pairs, coefficients, **options):
    ups, downs = zip(*pairs, strict=True)
    return cut_stack(ups, downs, coefficients, before_RI=options.pop("before", downs[0]), name="layer", **options)


def best(matrix, rank=RANK):
    u, sigma, v = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * sigma[:rank]) @ v[:rank], np.linalg.norm(sigma[rank:])


def test_a_cut_is_the_best_of_its_rank_and_says_what_it_lost():
    pairs = [factors(1), factors(2)]
    whole = 0.5 * pairs[0][0] @ pairs[0][1] + 0.25 * pairs[1][0] @ pairs[1][1]
    cut = stack(pairs, [0.5, 0.25])
    wanted, lost = best(whole)
    assert np.allclose(cut.up_OR @ cut.down_RI, wanted)
    assert cut.norm == pytest.approx(np.linalg.norm(whole))
    assert cut.lost == pytest.approx(lost)
    assert lost > 0.1 * cut.norm


def test_the_mean_of_factors_is_another_product_than_the_mean_of_products():
    (b1, a1), (b2, a2) = factors(1), factors(2)
    by_products = (b1 @ a1 + b2 @ a2) / 2
    by_factors = (b1 + b2) / 2 @ (a1 + a2) / 2
    cut = stack([(b1, a1), (b2, a2)], [0.5, 0.5])
    error, error_of_factors = (np.linalg.norm(m - by_products) for m in (cut.up_OR @ cut.down_RI, by_factors))
    assert error < 0.7 * error_of_factors
    same, turned = (b1, a1), (-b1, -a1)  # the same module, written otherwise
    assert np.allclose((b1 - b1) / 2 @ (a1 - a1) / 2, 0)
    again = stack([same, turned], [0.5, 0.5])
    assert np.allclose(again.up_OR @ again.down_RI, b1 @ a1)


def test_factors_beside_each_other_and_the_whole_matrix_give_the_same_product():
    pairs = [factors(seed) for seed in range(4)]  # 12 columns: as many as rows, so that the sum itself is made
    few = stack(pairs[:2], [0.5, 0.5])
    whole = cut_matrix(sum(0.5 * b @ a for b, a in pairs[:2]), before_RI=pairs[0][1], name="layer")
    assert np.allclose(few.up_OR @ few.down_RI, whole.up_OR @ whole.down_RI)
    many, wanted = stack(pairs, [0.25] * 4), best(sum(0.25 * b @ a for b, a in pairs))[0]
    assert np.allclose(many.up_OR @ many.down_RI, wanted)


def test_rows_of_a_keep_their_length_and_rows_without_use_stay_trainable():
    _, a = factors(1)
    one = np.outer(np.arange(12.0), np.arange(9.0))
    cut = cut_matrix(one, before_RI=a, name="layer")
    assert np.linalg.norm(cut.down_RI[0]) == pytest.approx(np.sqrt(np.square(a).sum() / RANK))
    assert np.array_equal(cut.down_RI[1:], a[1:])
    assert not cut.up_OR[:, 1:].any()
    assert np.allclose(cut.up_OR @ cut.down_RI, one)


def test_nothing_learnt_leaves_the_factors_as_they_were():
    b, a = factors(1)
    cut = stack([(np.zeros_like(b), a)], [1.0])
    assert np.array_equal(cut.down_RI, a)
    assert not cut.up_OR.any()
    assert (cut.norm, cut.lost) == (0.0, 0.0)


def test_a_scale_that_wanders_between_the_factors_changes_nothing():
    b, a = factors(1)
    wild = stack([(b * 1e9, a / 1e9)], [1.0], before=a)
    plain = stack([(b, a)], [1.0], before=a)
    assert np.allclose(wild.up_OR, plain.up_OR)
    assert np.allclose(wild.down_RI, plain.down_RI)


def test_what_is_not_finite_is_refused_by_its_module():
    b, a = factors(1)
    with pytest.raises(FusionError, match="module layer: the fused change of weights is not finite"):
        stack([(b * np.inf, a)], [1.0])
    with pytest.raises(FusionError, match="not finite"):
        stack([(b * 1e200, a * 1e200)], [1.0])
