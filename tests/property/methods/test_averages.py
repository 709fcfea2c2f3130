"""Task arithmetic, interpolation, soups and tables of coefficients against loops over single elements."""

import numpy as np
import pytest
from sampling import SCALES, SIZES, examples

from coldfuse.errors import FusionError
from coldfuse.fusion.average.interpolate import Extrapolate, Interpolate
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.average.soups import Ratatouille, UniformSoup
from coldfuse.fusion.average.task_arithmetic import Analogy, Negate, TaskArithmetic
from coldfuse.fusion.in_memory import InMemory, fuse_one, move_in_memory
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import Recipe, format_recipe, parse_recipe


def deltas_of(size, *, count=3, scale=1.0):
    deltas = np.random.default_rng(size).standard_normal((count, size)) * scale
    deltas[1, ::3] = 0.0
    deltas[:, ::5] = deltas[0, ::5]
    return list(deltas)


def combined(deltas, coefficients):
    """Add up one element after the other."""
    return [
        sum(float(delta[n]) * coefficient for delta, coefficient in zip(deltas, coefficients, strict=True))
        for n in range(len(deltas[0]))
    ]


def fuse(combiner, deltas, **options):
    return fuse_one(Recipe(combiner=combiner), deltas, **options)


@pytest.mark.parametrize(("variant", "default"), [("paper", 0.3), ("mergekit", 1.0)])
@examples(size=SIZES, scale=SCALES)
def test_task_arithmetic_scales_the_weighted_sum_and_does_not_normalise(size, scale, variant, default):
    deltas = deltas_of(size, scale=scale)

    fused = fuse(TaskArithmetic(variant=variant), deltas, weights=[2.0, -1.0, 0.5])

    np.testing.assert_allclose(fused, combined(deltas, [2 * default, -default, default / 2]), rtol=1e-12, atol=0)


def test_a_given_scale_wins_over_either_variant():
    deltas = deltas_of(7)

    both = [fuse(TaskArithmetic(scale=0.4, variant=variant), deltas) for variant in ("paper", "mergekit")]

    np.testing.assert_array_equal(*both)
    np.testing.assert_allclose(both[0], combined(deltas, [0.4] * 3), rtol=1e-12)


@examples(size=SIZES)
def test_task_arithmetic_with_one_part_each_is_the_mean(size):
    deltas = deltas_of(size, count=4)

    np.testing.assert_array_equal(fuse(TaskArithmetic(scale=0.25), deltas), fuse(Mean(), deltas))


def test_weights_may_sum_to_zero():
    fused = fuse(TaskArithmetic(scale=1.0), [np.array([3.0, 1.0]), np.array([1.0, 1.0])], weights=[1.0, -1.0])

    assert fused.tolist() == [2.0, 0.0]


@pytest.mark.parametrize("combiner", [TaskArithmetic(), Negate()])
@examples(bad=[np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(combiner, bad):
    with pytest.raises(FusionError, match="expected finite numbers"):
        fuse(combiner, deltas_of(2), weights=[1.0, bad, 1.0])


@examples(size=SIZES, scale=SCALES)
def test_negation_steps_back(size, scale):
    deltas = deltas_of(size, scale=scale)

    fused = fuse(Negate(scale=0.5), deltas, weights=[1.0, 2.0, 4.0])

    np.testing.assert_allclose(fused, combined(deltas, [-0.5, -1.0, -2.0]), rtol=1e-12, atol=0)


def test_forgetting_one_task_whole_gives_base_minus_delta():
    delta = deltas_of(7)[0]

    np.testing.assert_array_equal(fuse(Negate(), [delta]), -delta)


@examples(size=SIZES, scale=SCALES)
def test_an_analogy_is_a_plus_b_minus_c_in_the_order_of_the_models(size, scale):
    deltas, analogy = deltas_of(size, scale=scale), Analogy(scale=0.8)

    fused = fuse(analogy, deltas, weights=analogy.positional_weights(3))

    np.testing.assert_allclose(fused, combined(deltas, [0.8, 0.8, -0.8]), rtol=1e-12, atol=1e-15 * scale)


def test_an_analogy_of_a_with_two_equal_models_is_a():
    a, b = np.array([1.0, 2.0, -4.0]), np.array([0.5, 0.25, 8.0])

    assert fuse(Analogy(), [a, b, b], weights=[1, 1, -1]).tolist() == a.tolist()


@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_analogy_needs_three_models(count):
    with pytest.raises(FusionError, match=f"expected 3 models in this order, got {count}"):
        Analogy().positional_weights(count)


def test_an_analogy_does_not_guess_which_model_is_subtracted():
    with pytest.raises(FusionError, match="name the three models in order"):
        fuse(Analogy(), deltas_of(2))


@examples(size=SIZES, alpha=[0.0, 0.3, 1.0])
def test_interpolation_mixes_base_and_fused_model(size, alpha):
    base, delta = np.random.default_rng(1).standard_normal((2, size))

    added, state = move_in_memory(Recipe(outers=(Interpolate(alpha=alpha),)), delta, {})

    np.testing.assert_allclose(base + added, (1 - alpha) * base + alpha * (base + delta), rtol=1e-12, atol=1e-15)
    assert state == {}


@examples(size=SIZES, alpha=[0.0, 0.5, 3.0])
def test_extrapolation_goes_on_from_the_fused_model(size, alpha):
    base, delta = np.random.default_rng(2).standard_normal((2, size))
    finetuned = base + delta

    added, state = move_in_memory(Recipe(outers=(Extrapolate(alpha=alpha),)), delta, {})

    np.testing.assert_allclose(base + added, finetuned + alpha * (finetuned - base), rtol=1e-12, atol=1e-14)
    assert state == {}


@pytest.mark.parametrize("outer", [Interpolate(), Extrapolate()])
def test_a_step_leaves_the_fused_delta_as_it_was(outer):
    delta = np.array([1.0, -0.0, 4.0])

    outer.step(delta, (), age=0)

    assert delta.tolist() == [1.0, 0.0, 4.0]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (Interpolate, {"alpha": 1.1}),
        (Interpolate, {"alpha": -0.1}),
        (Extrapolate, {"alpha": -0.1}),
        (TaskArithmetic, {"scale": -1.0}),
    ],
)
def test_parameters_out_of_bounds_are_refused(kind, params):
    with pytest.raises(ValueError, match="Input should be"):
        kind(**params)


@pytest.mark.parametrize("soup", [UniformSoup, Ratatouille])
def test_soups_are_means_under_their_own_names(soup):
    deltas = deltas_of(99)

    np.testing.assert_array_equal(fuse(soup(), deltas), fuse(Mean(), deltas))
    assert soup.source != Mean.source


@pytest.mark.parametrize(
    "line",
    [
        "uniform-soup(absent=zero)",
        "ratatouille(absent=skip)",
        "task-arithmetic(scale=0.4, variant=mergekit)",
        "analogy(scale=0.5)",
        "negate(scale=1.0) then interpolate(alpha=0.5) then extrapolate(alpha=0.25)",
    ],
)
def test_recipes_are_written_as_they_were_read(line):
    assert format_recipe(parse_recipe(line, METHODS), METHODS) == line


def test_a_tensor_that_only_weightless_contributions_changed_stays():
    fusion = InMemory(
        recipe=parse_recipe("weighted-mean(absent=skip)", METHODS), base={"w": np.zeros(3)},
        deltas=[{"w": np.ones(3)}, {}], weights=[0.0, 2.0],
    )  # fmt: skip
    assert not fusion.fuse()["w"].any()
