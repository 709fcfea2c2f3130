"""What holds for matrix methods beside the laws of all: single contributions, no matrices, numpy and torch."""

import numpy as np
import pytest
import torch
from sampling import SHAPES, examples

from coldfuse.fusion.block import Matrix, TensorInfo
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.matrix.compress import LowRank
from coldfuse.fusion.matrix.iso_c import IsoC
from coldfuse.fusion.matrix.iso_cts import IsoCTS
from coldfuse.fusion.matrix.knots import Knots
from coldfuse.fusion.matrix.opcm import OPCM
from coldfuse.fusion.matrix.tsv_m import TSVM
from coldfuse.fusion.matrix.wudi import Wudi, WudiAdam
from coldfuse.fusion.recipe import Recipe

ALL = [IsoC(), IsoCTS(), TSVM(), Knots(), Knots(merge="mean"), Wudi(), Wudi(ridge=0.1), WudiAdam(), OPCM(), LowRank()]
every_method = pytest.mark.parametrize("method", ALL, ids=repr)


def draw(shape, count=3, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal(shape) for _ in range(count)]


def fuse(method, deltas):
    return fuse_one(Recipe(combiner=method), deltas)


def assert_close(got, expected, tolerance=1e-10):
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 1e-300))


@every_method
@examples(shape=SHAPES)
def test_numpy_and_torch_agree(method, shape):
    deltas = draw(shape, scale=0.01)
    expected = fuse(method, deltas)
    info = TensorInfo(
        tensor="w",
        shape=shape,
        weights_C=np.ones(3),
        present_C=np.ones(3, np.bool_),
        keys_C=np.zeros(3, np.uint64),
        num_elements=expected.size,
    )
    matrix = Matrix(info=info, read_delta=lambda i: torch.tensor(deltas[i]), read_statistic=lambda i: None)

    fused = method.fuse_matrix(matrix)

    assert isinstance(fused, torch.Tensor)
    assert_close(fused.numpy(), expected)


@pytest.mark.parametrize("method", [method for method in ALL if not isinstance(method, OPCM)], ids=repr)
def test_what_is_not_a_matrix_gets_the_mean_but_for_opcms_sum(method):
    vectors = draw((7,))

    assert_close(fuse(method, vectors), sum(vectors) / 3, 1e-15)


@pytest.mark.parametrize("method", [IsoC, IsoCTS, TSVM, Knots, LowRank])
def test_the_scale_holds_for_matrices_and_for_the_rest(method):
    deltas = [{"w": w, "b": b} for w, b in zip(draw((4, 3)), draw((4,)), strict=True)]
    base = {"w": np.zeros((4, 3)), "b": np.zeros(4)}

    once = InMemory(recipe=Recipe(combiner=method()), base=base, deltas=deltas).fuse()
    half = InMemory(recipe=Recipe(combiner=method(scale=0.5)), base=base, deltas=deltas).fuse()

    for name in base:
        assert_close(half[name], 0.5 * once[name], 1e-14)


@every_method
def test_the_order_of_contributions_matters_only_to_opcm(method):
    deltas = draw((4, 6))
    change = np.abs(fuse(method, deltas) - fuse(method, deltas[::-1])).max()

    assert (change > 1e-3) if isinstance(method, OPCM) else (change < 1e-9)
