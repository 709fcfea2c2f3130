"""Matrix methods against the papers' formulas, written out with numpy for one small layer at a time."""

import numpy as np
import pytest
import torch
from sampling import SCALES, SHAPES, examples

from coldfuse.fusion.in_memory import fuse_one
from coldfuse.fusion.matrix.iso_c import IsoC
from coldfuse.fusion.matrix.iso_cts import IsoCTS
from coldfuse.fusion.matrix.knots import Knots
from coldfuse.fusion.matrix.opcm import OPCM
from coldfuse.fusion.matrix.tsv_m import TSVM
from coldfuse.fusion.matrix.wudi import Wudi, WudiAdam
from coldfuse.fusion.recipe import Recipe


def draw(shape, count=3, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal(shape) for _ in range(count)]


def fuse(method, deltas):
    return fuse_one(Recipe(combiner=method), deltas)


def assert_close(got, expected, tolerance=1e-10):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-300))


def orthogonalised(matrix):
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    return left @ right


def naive_iso_c(deltas):
    left, values, right = np.linalg.svd(sum(deltas), full_matrices=False)
    return left @ np.diag(np.full(len(values), values.mean())) @ right


def naive_iso_cts(deltas, common):
    rank = min(deltas[0].shape)
    own = min(round((rank - int(rank * common)) / len(deltas)), rank // len(deltas))
    kept = rank - own * len(deltas)
    left, values, right = (part.T for part in np.linalg.svd(sum(deltas), full_matrices=False))
    lefts, sizes, rights = [*left[:kept]], [*values[:kept]], [*right.T[:kept]]
    for delta in deltas:
        residual = delta - sum((np.outer(u, u) @ delta for u in left[:kept]), np.zeros_like(delta))
        u, s, vt = np.linalg.svd(residual, full_matrices=False)
        lefts += [*u.T[:own]]
        sizes += [*s[:own]]
        rights += [*vt[:own]]
    return orthogonalised(np.array(lefts).T) @ (np.eye(rank) * np.mean(sizes)) @ orthogonalised(np.array(rights))


def naive_tsv_m(deltas):
    kept = min(deltas[0].shape) // len(deltas)
    parts = [np.linalg.svd(delta, full_matrices=False) for delta in deltas]
    left = np.hstack([u[:, :kept] for u, _, _ in parts])
    values = np.concatenate([s[:kept] for _, s, _ in parts])
    right = np.vstack([vt[:kept] for _, _, vt in parts])
    return orthogonalised(left) @ np.diag(values) @ orthogonalised(right)


def naive_ties(vectors, density):
    fused = np.zeros(len(vectors[0]))
    kept = []
    for vector in vectors:
        smallest = sorted(abs(x) for x in vector)[max(len(vector) - int(density * len(vector)), 1) - 1]
        kept.append([x if abs(x) >= smallest else 0.0 for x in vector])
    for n in range(len(fused)):
        column = [vector[n] for vector in kept]
        agreeing = [x for x in column if x * sum(column) > 0]
        fused[n] = sum(agreeing) / max(len(agreeing), 1)
    return fused


def naive_knots(deltas, density):
    count, width = len(deltas), deltas[0].shape[1]
    u, s, vt = np.linalg.svd(np.hstack(deltas), full_matrices=False)
    parts = [np.diag(s) @ vt[:, i * width : (i + 1) * width] for i in range(count)]
    return u @ naive_ties([part.ravel() for part in parts], density).reshape(parts[0].shape)


def naive_opcm(deltas, alpha):
    fused = deltas[0]
    for delta in deltas[1:]:
        u, s, vt = np.linalg.svd(fused, full_matrices=True)
        split = next(k for k in range(len(s)) if s[: k + 1].sum() / s.sum() > alpha)
        inside = u.T @ delta @ vt.T
        for r in range(len(s)):
            inside[r, r] = 0
        inside[:split, :split] = 0
        fused = fused + u @ inside @ vt
    return fused * np.mean([np.linalg.norm(delta) for delta in deltas]) / np.linalg.norm(fused)


def wudi_loss(fused, deltas):
    return sum(torch.linalg.norm((fused - d) @ d.T) ** 2 / torch.linalg.norm(d) ** 2 for d in deltas)


@examples(shape=SHAPES, scale=SCALES[:2])
def test_iso_c_gives_all_directions_of_the_sum_the_mean_singular_value(shape, scale):
    deltas = draw(shape, scale=scale)

    fused = fuse(IsoC(), deltas)

    assert_close(fused, naive_iso_c(deltas))
    assert_close(np.linalg.svd(fused)[1], np.full(min(shape), np.linalg.svd(sum(deltas))[1].mean()))


@examples(shape=SHAPES, common=[0.0, 0.3, 0.8, 1.0])
def test_iso_cts_equals_the_written_out_algorithm(shape, common):
    deltas = draw(shape, count=2)

    assert_close(fuse(IsoCTS(common=common), deltas), naive_iso_cts(deltas, common))


def test_iso_cts_with_only_common_directions_is_iso_c():
    deltas = draw((6, 4))

    assert_close(fuse(IsoCTS(common=1.0), deltas), fuse(IsoC(), deltas))


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_iso_cts_takes_no_more_directions_than_there_are(count):
    fused = fuse(IsoCTS(common=0.0), draw((5, 4), count=count))

    assert np.linalg.matrix_rank(fused) == 4


def test_iso_cts_adds_nothing_of_its_own_where_deltas_lie_in_the_common_space():
    delta = np.outer([1.0, 2, 3, 4, 5], [1.0, -1, 2, 0, 3])

    assert_close(fuse(IsoCTS(common=0.4), [delta, 2 * delta]), 3 * delta)


@pytest.mark.parametrize(("shape", "count"), [((5, 3), 2), ((3, 5), 3), ((6, 6), 2), ((6, 6), 3), ((2, 7), 2)])
@examples(scale=[1.0, 1e-06])
def test_tsv_m_equals_the_written_out_algorithm(shape, count, scale):
    deltas = draw(shape, count=count, scale=scale)

    assert_close(fuse(TSVM(), deltas), naive_tsv_m(deltas))


def test_tsv_m_of_more_contributions_than_directions_keeps_one_of_each():
    assert np.linalg.matrix_rank(fuse(TSVM(), draw((4, 3), count=7))) == 3


def test_tsv_m_counts_a_direction_once_that_all_share():
    delta = np.outer([1.0, 2, 3], [1.0, -1, 2])

    assert_close(fuse(TSVM(), [delta] * 3), delta)


def test_tsv_m_sums_contributions_that_do_not_interfere():
    first, second = np.zeros((4, 4)), np.zeros((4, 4))
    first[:2, :2], second[2:, 2:] = draw((2, 2), count=2)

    assert_close(fuse(TSVM(), [first, second]), first + second)


@examples(shape=[(3, 5), (6, 6), (2, 7)], density=[0.1, 0.2, 0.5, 1.0], scale=[1.0, 1e-06])
def test_knots_equals_the_written_out_algorithm(shape, density, scale):
    deltas = draw(shape, count=4, scale=scale)

    assert_close(fuse(Knots(density=density), deltas), naive_knots(deltas, density))


def test_knots_turns_a_tall_matrix_on_its_side():
    deltas = draw((5, 3))

    assert_close(fuse(Knots(), deltas), naive_knots([delta.T for delta in deltas], 0.2).T)


@examples(shape=SHAPES)
def test_the_knots_mean_is_the_mean(shape):
    deltas = draw(shape)

    assert_close(fuse(Knots(merge="mean"), deltas), sum(deltas) / 3)


def test_knots_drops_weak_directions_whatever_the_scale():
    delta = np.diag([1.0, 0.5, 1e-5])

    for scale in (1.0, 1e-6):
        fused = fuse(Knots(merge="mean"), [scale * delta])
        assert_close(fused, scale * np.diag([1.0, 0.5, 0.0]), 1e-12)


def test_knots_decides_a_tied_vote_by_the_sign_of_most():
    deltas = [np.diag([3.0, 2.0]), np.diag([-3.0, 2.0])]

    fused = fuse(Knots(density=1.0), deltas)

    assert_close(fused, np.diag([3.0, 2.0]))
    assert_close(fuse(Knots(density=1.0), [-delta for delta in deltas]), np.diag([-3.0, -2.0]))


@examples(shape=SHAPES, scale=SCALES[:2])
def test_wudi_makes_the_gradient_of_its_loss_zero(shape, scale):
    deltas = [torch.tensor(delta) for delta in draw(shape, scale=scale)]
    fused = torch.tensor(fuse(Wudi(), [delta.numpy() for delta in deltas]), requires_grad=True)

    wudi_loss(fused, deltas).backward()

    start = sum(deltas).requires_grad_()
    wudi_loss(start, deltas).backward()
    assert fused.grad.abs().max() < 1e-9 * start.grad.abs().max()


def test_wudi_keeps_what_no_delta_spans_unchanged():
    deltas = draw((2, 6), count=2)
    free = np.linalg.svd(np.vstack(deltas))[2][4:]

    assert np.abs(fuse(Wudi(), deltas) @ free.T).max() < 1e-10


def test_a_large_ridge_leads_wudi_to_the_sum():
    deltas = draw((4, 3))

    assert_close(fuse(Wudi(ridge=1e9), deltas), sum(deltas), 1e-8)
    assert_close(fuse(Wudi(ridge=1e-13), deltas), fuse(Wudi(), deltas), 1e-9)


def test_wudi_ignores_who_did_not_change_the_tensor():
    deltas = draw((4, 3))

    np.testing.assert_array_equal(fuse(Wudi(), [*deltas, np.zeros((4, 3))]), fuse(Wudi(), deltas))


@examples(shape=SHAPES)
@pytest.mark.parametrize("lr", [1e-5, 1e-2])
def test_wudi_adam_takes_the_published_steps(shape, lr):
    deltas = [torch.tensor(delta) for delta in draw(shape, scale=0.01)]
    expected = sum(deltas).requires_grad_()
    optimizer = torch.optim.Adam([expected], lr=lr)
    for _ in range(30):
        optimizer.zero_grad()
        wudi_loss(expected, deltas).backward()
        optimizer.step()

    fused = fuse(WudiAdam(steps=30, lr=lr), [delta.numpy() for delta in deltas])

    assert_close(fused, expected.detach().numpy(), 1e-9)


def test_wudi_adam_ends_where_the_closed_form_is():
    deltas = draw((4, 3), scale=0.1)

    assert_close(fuse(WudiAdam(steps=5000, lr=1e-3), deltas), fuse(Wudi(), deltas), 1e-2)


@examples(shape=SHAPES, alpha=[0.0, 0.5, 0.9], scale=[1.0, 1e-06])
def test_opcm_equals_the_written_out_algorithm(shape, alpha, scale):
    deltas = draw(shape, scale=scale)

    assert_close(fuse(OPCM(alpha=alpha), deltas), naive_opcm(deltas, alpha))


def test_opcm_takes_nothing_in_that_lies_in_the_directions_before():
    delta = np.diag([3.0, 2.0, 1.0])

    assert_close(fuse(OPCM(), [delta, 5 * delta]), 3 * delta)


def test_opcm_scales_what_is_not_a_matrix_to_the_mean_norm():
    fused = fuse(OPCM(), [np.array([3.0, 0, 0]), np.array([0.0, 4.0, 0])])

    assert_close(fused, np.array([3.0, 4.0, 0]) * 3.5 / 5)
