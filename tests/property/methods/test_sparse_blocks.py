"""Formulas must not care how the engine cuts a tensor, nor what stands beside it in the model."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from coldfuse.fusion.in_memory import InMemory
from coldfuse.fusion.method import Ranked, Sums
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import parse_recipe

COMBINERS = [
    "ties", "ties(density=1)", "ties(density=0.2, variant=mergekit)", "ties(zero_votes=model)", "consensus",
    "pcb", "magmax", "sce", "sce(select_topk=0.3)", "ram", "ram-plus",
]  # fmt: skip
TRANSFORMS = [
    "trim",
    "dare",
    "dare(drop=0.5, variant=mergekit)",
    "della",
    "breadcrumbs",
    "breadcrumbs(density=0.3,variant=mergekit)",
]
ROW = 5


def measured(line, shape=(260, ROW)):
    deltas = np.random.default_rng(0).normal(size=(4, *shape)).round(1)
    fusion = InMemory(
        recipe=parse_recipe(line, METHODS), base={"w": np.zeros(shape)}, deltas=[{"w": delta} for delta in deltas]
    )
    fusion.fuse()
    return fusion


def cut(block, starts=(0, 1, 2, 9, 75, 259, 260)):
    for first, last in pairwise(starts):
        run = slice(first * ROW, last * ROW)
        yield replace(
            block, first=run.start, base_N=block.base_N[run], deltas_CN=np.ascontiguousarray(block.deltas_CN[:, run])
        )


@pytest.mark.parametrize("line", COMBINERS)
def test_a_combiners_formula_does_not_depend_on_the_cut(line):
    fusion = measured(line)
    combiner, block = fusion.recipe.combiner, fusion._block("w", 0)
    pieces = [combiner.fuse(piece) for piece in cut(block)]
    np.testing.assert_array_equal(np.hstack(pieces), combiner.fuse(block))


@pytest.mark.parametrize("line", TRANSFORMS)
def test_a_transforms_formula_does_not_depend_on_the_cut(line):
    fusion = measured(line)
    transform, block = fusion.recipe.transforms[0], fusion._block("w", 0)
    pieces = list(cut(block))
    for each in (block, *pieces):
        transform.transform(each.deltas_CN, np.arange(len(each.deltas_CN)), each)
    np.testing.assert_array_equal(np.hstack([piece.deltas_CN for piece in pieces]), block.deltas_CN)


@pytest.mark.parametrize("line", COMBINERS + TRANSFORMS)
def test_a_measure_does_not_depend_on_the_cut(line):
    fusion = measured(line)
    for measure in fusion.recipe.steps[0].measures():
        block = fusion._block("w", 0)
        values = [measure.of(piece) for piece in cut(block)]
        whole = measure.of(block)
        if isinstance(measure, Ranked):
            np.testing.assert_array_equal(np.hstack(values), whole)
        if isinstance(measure, Sums):
            np.testing.assert_allclose(np.sum(values, axis=0), whole, rtol=1e-13)


@pytest.mark.parametrize("line", COMBINERS + TRANSFORMS)
@pytest.mark.parametrize("count", [1, 2, 20])
def test_every_size_gives_finite_numbers_and_nothing_of_nothing(line, count):
    shapes = [(), (1,), (2,), (7,), (8, 8), (99,), (10, 10)]
    for scale, shape in product([0.0, 1.0, 1e-42], shapes):
        deltas = np.random.default_rng(1).normal(size=(count, *shape)) * scale
        base = {"w": np.zeros(shape)}
        fused = InMemory(recipe=parse_recipe(line, METHODS), base=base, deltas=[{"w": d} for d in deltas]).fuse()["w"]
        assert fused.shape == shape
        assert np.isfinite(fused).all()
        assert scale or not fused.any()
