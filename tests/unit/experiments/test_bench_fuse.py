import math

import pytest

from coldfuse.cli.bench import _split
from coldfuse.errors import UserInputError
from coldfuse.experiments.bench_fuse import Spread
from coldfuse.experiments.bench_models import SHAPES


@pytest.mark.parametrize(("shape", "count"), [("minilm", 22_713_216), ("llama-0.5b", 493_961_728)])
def test_shapes_have_the_size_of_their_original_and_any_other(shape, count):
    assert SHAPES[shape](None).num_parameters == pytest.approx(count, rel=1e-3)
    assert SHAPES[shape](5_000_000).num_parameters == pytest.approx(5_000_000, rel=0.15)


def test_square_models_have_exactly_the_size_that_was_asked_for():
    assert SHAPES["square"](10_000_000).num_parameters == 10_000_000


def test_tensors_lie_in_the_order_of_their_names():
    for make in SHAPES.values():
        tensors = make(5_000_000).tensors
        assert list(tensors) == sorted(tensors)
        assert all(math.prod(shape) > 0 for shape in tensors.values())


def test_recipes_are_cut_at_commas_outside_parentheses():
    assert _split("mean, ties(density=0.3, scale=2),dare then mean") == [
        "mean", "ties(density=0.3, scale=2)", "dare then mean",
    ]  # fmt: skip


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UserInputError, match="expected methods or recipes, separated by commas"):
        _split("mean,")


def test_a_spread_is_a_median_and_what_lies_around_it():
    assert Spread.of([3.0, 1.0, 2.5]) == Spread(median=2.5, min=1.0, max=3.0)
    assert str(Spread.of([3.0, 1.0])) == "2.00 (1.00–3.00)"
