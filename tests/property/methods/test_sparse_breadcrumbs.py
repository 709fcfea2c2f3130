"""Breadcrumbs against sorting each row, or each tensor."""

import numpy as np
import pytest
from sampling import SCALES, examples

from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import format_recipe, parse_recipe


def golden(seed, shape, scale=1.0):
    """Ties in every row, both zeros and opposite signs."""
    delta = np.random.default_rng(seed).normal(size=shape).round(1) * scale
    delta.flat[: min(2, delta.size)] = [0.0, -0.0][: delta.size]
    return delta


def between(values, first, last, kind):
    ranked = sorted(kind(abs(v)) for v in values)
    return [v if ranked[first] <= kind(abs(v)) <= ranked[last] else 0.0 for v in values]


def naive_row(row, density, gamma):
    outliers, kept = int(gamma * len(row)), max(1, int(density * len(row)))
    last = len(row) - 1 - outliers
    return between(row, max(0, last - kept + 1), last, float)


def naive_tensor(values, density, gamma):
    outliers, kept = int(gamma * len(values)), max(1, int(density * len(values)))
    first = max(0, len(values) - kept - outliers)
    return between(values, first, first + kept - 1, np.float32)


def after(line, delta):
    return fuse_one(parse_recipe(f"{line} then mean", METHODS), [delta])


@pytest.mark.parametrize(("density", "gamma"), [(0.15, 0.006), (0.3, 0.1), (1.0, 0.05), (0.01, 0.0), (0.9, 0.5)])
@examples(scale=SCALES, shape=[(1,), (2,), (7,), (99,), (3, 100), (100, 1), (2, 4, 64)])
def test_breadcrumbs_keep_what_lies_between_in_each_row(shape, density, gamma, scale):
    delta = golden(0, shape, scale)
    want = np.array([naive_row(list(row), density, gamma) for row in delta.reshape(-1, shape[-1])]).reshape(shape)
    np.testing.assert_array_equal(after(f"breadcrumbs(density={density}, gamma={gamma})", delta), want)


@pytest.mark.parametrize(("density", "gamma"), [(0.15, 0.01), (0.3, 0.1), (0.99, 0.05), (0.01, 0.0)])
@examples(scale=[1.0, 1e-06])
def test_breadcrumbs_in_mergekits_variant_keep_what_lies_between_in_each_tensor(density, gamma, scale):
    shapes = {"a": (1,), "b": (2,), "c": (7,), "d": (8, 8), "e": (99,), "f": (10, 10)}
    delta = {name: golden(1, shape, scale) for name, shape in shapes.items()}
    recipe = parse_recipe(f"breadcrumbs(density={density}, gamma={gamma}, variant=mergekit) then mean", METHODS)
    fused = InMemory(recipe=recipe, base={n: np.zeros(s) for n, s in shapes.items()}, deltas=[delta]).fuse()
    for name, shape in shapes.items():
        want = np.reshape(naive_tensor(list(delta[name].flat), density, gamma), shape)
        np.testing.assert_array_equal(fused[name], want, err_msg=name)


def test_mergekits_defaults_change_nothing():
    delta = golden(2, (4, 50))
    np.testing.assert_array_equal(after("breadcrumbs(variant=mergekit)", delta), delta)
    written = format_recipe(parse_recipe("breadcrumbs(variant=mergekit)", METHODS), METHODS)
    assert "density=1.0, gamma=0.01" in written


def test_outliers_and_small_entries_go():
    delta = np.arange(1.0, 1001.0)
    kept = np.flatnonzero(after("breadcrumbs", delta))
    assert (kept[0], kept[-1], len(kept)) == (844, 993, 150)
