"""The laws of fusion methods on every method there is, and those of moving a base along what was fused."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.core.dtypes import from_floats, to_floats
from coldfuse.errors import FusionError
from coldfuse.fusion.apply import move
from coldfuse.fusion.in_memory import InMemory, fuse_one
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import Recipe, parse_recipe
from coldfuse.testing import Maker, check_method

VARIANTS = """
    mean(absent=skip)
    weighted-mean(absent=skip)
    interpolate(alpha=0)
    ties(density=1)
    ties(density=0.5, merge=sum, zero_votes=model, scale=0.3)
    dare(variant=mergekit, rescale=false)
    dare(drop=0)
    della(density=1, epsilon=0)
    breadcrumbs(density=1)
    breadcrumbs(density=0.3, variant=mergekit)
    sce(select_topk=0.3)
    ram(epsilon=0)
    ram-plus(epsilon=0)
    consensus(k=1, threshold=0)
    slerp(t=0.25)
    karcher(sphere=deltas)
    iso-cts(common=0.5)
    knots(merge=mean)
    wudi(ridge=0.1)
    opcm(alpha=0)
    low-rank(rank=2)
    fwsvd(rank=2)
    clip(norm=0.5)
    trimmed-mean(trim=0.4)
    geometric-median(iterations=20)
    krum(byzantine=1)
    multi-krum(selected=2)
    bulyan(byzantine=1)
    centred-clip(radius=0.5)
    regmean(off_diagonal=0.9, ridge=0.1)
    fisher(normalise=false)
    fisher(floor_rule=added)
    fisher(floor_rule=absolute)
    precision(normalise=true)
    fedadam(bias_correction=true)
"""
LINES = [
    *METHODS,
    *(f"{name}(variant=mergekit)" for name, kind in METHODS.items() if "variant" in kind.model_fields),
    *filter(None, map(str.strip, VARIANTS.splitlines())),
]

AVERAGES = """
    mean  mean(absent=skip)  weighted-mean  weighted-mean(absent=skip)  uniform-soup  ratatouille  analogy
    ties(density=1)  sce  ram(epsilon=0)
    slerp  slerp(t=0.25)  nuslerp  nuslerp-rows  multi-slerp  karcher  karcher(sphere=deltas)  model-stock
    knots(merge=mean)  wudi  low-rank  fwsvd  opcm
    clip  median  trimmed-mean  trimmed-mean(trim=0.4)  geometric-median  geometric-median(iterations=20)
    krum  krum(byzantine=1)  multi-krum  multi-krum(selected=2)  bulyan  bulyan(byzantine=1)  centred-clip
    regmean  regmean(off_diagonal=0.9, ridge=0.1)
    fisher  fisher(normalise=false)  fisher(floor_rule=added)  fisher(floor_rule=absolute)
    precision  precision(normalise=true)
"""
"""What gives back equal deltas. Not foolsgold, which takes them for one attacker's."""

ABSOLUTE = """
    nearswap  pcb  ram  ram-plus  ram-plus(variant=mergekit)  sce(variant=mergekit)  wudi-adam
    clip(norm=0.5)  centred-clip(radius=0.5)
    fedadagrad  fedadam  fedadam(bias_correction=true)  fedyogi
"""
"""What has a parameter, or a constant of its source, in a delta's unit."""

ORDERED = "opcm  opcm(alpha=0)"
"""Where the order matters by design."""

DTYPES = ("F32", "BF16", "F16", "F64")


def listed(table: str) -> set[str]:
    lines = {line.strip() for row in table.splitlines() for line in row.split("  ") if line.strip()}
    assert lines <= set(LINES)
    return lines


def maker(line: str) -> Maker:
    kind = METHODS[line.partition("(")[0]]
    return next(lambda step=step: step for step in parse_recipe(line, METHODS).steps if type(step) is kind)


@pytest.mark.parametrize("line", LINES)
def test_every_method_keeps_its_laws(line: str) -> None:
    check_method(
        maker(line),
        averages=line in listed(AVERAGES),
        scales=line not in listed(ABSOLUTE),
        ignores_order=line not in listed(ORDERED),
    )


def draw(size: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Draw float32 numbers, as float64: deltas have no more digits."""
    return (np.random.default_rng(seed).normal(size=size) * scale).astype(np.float32).astype(np.float64)


def base_of(size: int, dtype: str, seed: int = 99) -> np.ndarray:
    base = draw(size, seed)
    base[0] = -0.0
    return from_floats(base, dtype)


@examples(name=["mean", "weighted-mean"], size=SIZES, seed=range(3), scale=[*SCALES, 1e30])
def test_what_all_agree_on_comes_back_from_the_mean_bit_by_bit(name: str, size: int, seed: int, scale: float) -> None:
    delta, recipe = draw(size, seed, scale), parse_recipe(name, METHODS)
    assert delta.any()
    for count in (1, 2, 3, 7, 64):
        assert fuse_one(recipe, [delta] * count).tobytes() == delta.tobytes()


@examples(name=["mean", "weighted-mean"], size=SIZES, seed=range(3), scale=[1.0, 1e-6, 1e-41])
def test_the_fused_delta_is_the_weighted_mean(name: str, size: int, seed: int, scale: float) -> None:
    deltas = [{} if i == 2 else {"w": draw(size, seed + i, scale)} for i in range(5)]
    given = [float(w) for w in np.random.default_rng(seed).integers(1, 1000, size=5)]
    recipe, base = parse_recipe(name, METHODS), {"w": np.zeros(size)}
    fused = InMemory(recipe=recipe, base=base, deltas=deltas, weights=given).fuse()["w"]
    weights = [Fraction(w) if recipe.combiner.is_weighted else Fraction(1) for w in given]
    for n in range(size):
        terms = [w * Fraction(d["w"][n]) for w, d in zip(weights, deltas, strict=True) if d]
        bound = 8 * Fraction(2) ** -53 * sum(map(abs, terms)) / sum(weights)  # eight roundings at most
        assert abs(Fraction(fused[n]) - sum(terms) / sum(weights)) <= bound


@examples(size=SIZES, seed=range(3))
def test_weight_zero_equals_absence_in_the_weighted_mean_bit_by_bit(size: int, seed: int) -> None:
    deltas, recipe = [draw(size, seed + i) for i in range(3)], parse_recipe("weighted-mean", METHODS)
    with_zero = fuse_one(recipe, [deltas[0], deltas[1] * 1e6, deltas[2]], weights=[2.0, 0.0, 3.0])
    assert with_zero.tobytes() == fuse_one(recipe, [deltas[0], deltas[2]], weights=[2.0, 3.0]).tobytes()


def test_a_change_too_small_to_see_alone_is_not_lost_among_many() -> None:
    tiny = np.array([2.0**-30])
    assert fuse_one(Recipe(), [np.array([1.0]), *[tiny] * 4])[0] == (1.0 + 4 * 2.0**-30) / 5


def test_a_federation_weighs_by_examples_where_the_weighted_mean_is_asked_for() -> None:
    combiners = {name: kind() for name, kind in METHODS.items() if issubclass(kind, Combiner)}
    weights = {name: combiner.weigh(70, 0.5) for name, combiner in combiners.items()}
    assert weights == dict.fromkeys(combiners, 1.0) | {"weighted-mean": 70.0}


def test_weights_that_make_no_mean_are_refused() -> None:
    for weights in ([0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [-1.0, 1.0], [-2.0, 1.0]):
        with pytest.raises(FusionError, match=r"weights sum to .*, expected a finite number above 0"):
            fuse_one(parse_recipe("weighted-mean", METHODS), [np.ones(3)] * 2, weights=weights)


def test_weights_under_zero_are_refused_where_they_would_be_divided_by() -> None:
    deltas = [np.eye(3), 2 * np.eye(3)]
    for line in ("fisher", "precision", "regmean", "geometric-median", "multi-slerp"):
        with pytest.raises(FusionError, match=r"weights are \[2\.0, -1\.0\], expected none under 0"):
            fuse_one(parse_recipe(line, METHODS), deltas, weights=[2.0, -1.0], statistics=[np.eye(3)] * 2)


def test_as_many_weights_as_deltas_are_expected() -> None:
    with pytest.raises(ValueError, match=r"zip|broadcast"):
        fuse_one(Recipe(), [np.ones(3)] * 2, weights=[1.0] * 3)


@examples(size=SIZES, seed=range(3), dtype=DTYPES)
def test_moving_keeps_shape_and_dtype_and_leaves_the_base_alone(size: int, seed: int, dtype: str) -> None:
    base = base_of(size, dtype)
    before = base.tobytes()
    fused = move(base, draw(size, seed, 1e-3), dtype)
    assert (fused.shape, fused.dtype) == (base.shape, np.uint8)
    assert np.isfinite(to_floats(fused, dtype)).all()
    assert base.tobytes() == before


@examples(size=SIZES, dtype=DTYPES)
def test_moving_writes_where_it_is_told_to(size: int, dtype: str) -> None:
    base, delta = base_of(size, dtype), draw(size, 5, 1e-3)
    out = np.empty_like(base)
    assert move(base, delta, dtype, out=out) is out
    assert out.tobytes() == move(base, delta, dtype).tobytes()


@examples(size=SIZES, dtype=DTYPES)
def test_elements_that_do_not_move_keep_every_bit(size: int, dtype: str) -> None:
    base, delta = base_of(size, dtype), draw(size, 7)
    delta[::2] = np.where(np.arange(len(delta[::2])) % 2, 0.0, -0.0)
    moved, width = move(base, delta, dtype), len(base) // size
    assert moved.reshape(size, width)[::2].tobytes() == base.reshape(size, width)[::2].tobytes()


@examples(size=SIZES, dtype=DTYPES)
def test_base_and_delta_are_added_and_rounded_once(size: int, dtype: str) -> None:
    base, delta = base_of(size, dtype), draw(size, 7, 1e-3) + draw(size, 8, 1e-12)
    exact = to_floats(base, dtype).astype(np.float64) + delta
    assert move(base, delta, dtype).tobytes() == from_floats(exact, dtype).tobytes()


@pytest.mark.parametrize(
    ("dtype", "largest"), [("F16", 65504.0), ("BF16", 3.3895e38), ("F32", 3.4028e38), ("F64", 1.7e308)]
)
def test_a_sum_beyond_the_dtype_is_an_error(dtype: str, largest: float) -> None:
    for sign in (1.0, -1.0):
        base = from_floats(np.array([0.0, sign * largest, 1.0, -sign * largest]), dtype)
        with pytest.raises(FusionError, match=f"do not fit into {dtype}"):
            move(base, np.array([0.0, sign * largest, 0.0, -sign * largest]), dtype)


def test_an_overflow_is_seen_beside_infinities_of_the_base() -> None:
    base = from_floats(np.array([-np.inf, np.nan, 65504.0]), "F16")
    with pytest.raises(FusionError, match="do not fit into F16"):
        move(base, np.array([0.0, 0.0, 65504.0]), "F16")
    kept = to_floats(move(base, np.array([0.0, 1.0, -32.0]), "F16"), "F16")
    assert np.array_equal(kept, [-np.inf, np.nan, 65472.0], equal_nan=True)


def test_large_finite_numbers_are_no_overflow() -> None:
    base = from_floats(np.full(4, 1e308), "F64")
    assert np.isfinite(to_floats(move(base, np.full(4, 1e300), "F64"), "F64")).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_delta_that_is_no_number_is_an_error(dtype: str) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(FusionError, match="do not fit"):
            move(from_floats(np.ones(3), dtype), np.array([0.0, bad, 0.0]), dtype)


@pytest.mark.parametrize(("dtype", "least"), [("F16", -24), ("BF16", -133), ("F32", -149), ("F64", -1074)])
def test_subnormal_bases_move_by_subnormal_steps(dtype: str, least: int) -> None:
    base = from_floats(np.array([2.0**least, -(2.0**least)]), dtype)
    moved = to_floats(move(base, np.full(2, 2.0**least), dtype), dtype)
    assert moved.tolist() == [2.0 ** (least + 1), 0.0]
