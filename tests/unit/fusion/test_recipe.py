"""What a line of steps means, and what users are told about one that means nothing."""

from __future__ import annotations

import pytest

from coldfuse.errors import UserInputError
from coldfuse.fusion.average.interpolate import Extrapolate
from coldfuse.fusion.average.mean import Mean, WeightedMean
from coldfuse.fusion.average.task_arithmetic import TaskArithmetic
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.outer.nesterov import Nesterov
from coldfuse.fusion.recipe import Recipe, format_recipe, parse_recipe
from coldfuse.fusion.robust.clip import Clip
from coldfuse.fusion.sparse.breadcrumbs import Breadcrumbs
from coldfuse.fusion.sparse.dare import Dare
from coldfuse.fusion.sparse.della import Della
from coldfuse.fusion.sparse.ties import Ties


def parse(line: str, **more) -> Recipe:
    return parse_recipe(line, METHODS, **more)


def refusal(line: str, **more) -> str:
    with pytest.raises(UserInputError) as caught:
        parse(line, **more)
    return str(caught.value)


def test_a_name_alone_is_a_method_with_its_defaults():
    for name, kind in METHODS.items():
        assert kind() in parse(name).steps


def test_a_table_knows_its_methods_by_name_and_by_class():
    class Own(Mean):
        pass

    table = METHODS | {"own": Own}
    assert [table.name_of(kind) for kind in (Ties, Own, Recipe)] == ["ties", "own", "Recipe"]
    assert {table.name_of(kind): kind for kind in table.values()} == dict(table)
    assert len(table) == len(METHODS) + 1
    assert "own" not in METHODS


def test_steps_stay_in_their_order():
    recipe = parse("dare(drop=0.2) then clip then ties(density=1) then nesterov then extrapolate")
    assert recipe.transforms == (Dare(drop=0.2), Clip())
    assert recipe.combiner == Ties(density=1)
    assert recipe.outers == (Nesterov(), Extrapolate())
    assert recipe.steps == (Dare(drop=0.2), Clip(), Ties(density=1), Nesterov(), Extrapolate())


@pytest.mark.parametrize(("line", "steps"), [("clip", 2), ("nesterov", 2), ("clip then nesterov", 3)])
def test_the_mean_combines_where_nothing_else_does(line, steps):
    recipe = parse(line)
    assert recipe.combiner == Mean()
    assert len(recipe.steps) == steps


@pytest.mark.parametrize(
    "line",
    [
        "clip then ties(density=0.3,merge=sum) then nesterov",
        "  clip  then  ties ( density = 0.3 ,  merge = sum )  then  nesterov  ",
        "clip()\nthen\tties(density=0.3,merge=sum,) then nesterov()",
        "clip then ties(merge=sum, density=3e-1) then nesterov",
    ],
)
def test_spaces_do_not_matter(line):
    assert parse(line).steps == (Clip(), Ties(density=0.3, merge="sum"), Nesterov())


@pytest.mark.parametrize(
    "line",
    ["ties then clip", "mean then ties", "ties then ties", "nesterov then mean", "nesterov then clip",
     "clip then nesterov then ties", "clip then mean then weighted-mean then nesterov"],
)  # fmt: skip
def test_steps_in_another_order_or_two_that_combine_are_refused(line):
    expected = "expected transforms, then one method that combines, then outer steps, in this order"
    assert refusal(line) == f"{line!r}: {expected}"


@pytest.mark.parametrize("line", ["momentum then nesterov", "fedadam then fedyogi", "nesterov then nesterov"])
def test_two_steps_with_the_same_memory_are_refused(line):
    assert refusal(line) == f"{line!r}: two outer steps keep the same state; name one of them"


def test_steps_with_memories_of_their_own_go_together():
    assert parse("momentum then fedadam").slots == ("momentum", "first_moment", "second_moment")


@pytest.mark.parametrize(
    "line",
    ["", "  ", "then", "clip then", "then clip", "clip then then ties", "ties(", "ties)", "ties((density=1))", "TIES",
     "ties density=0.3", "ties, clip", "clip+ties", "-ties", "ties(density=0.3) clip"],
)  # fmt: skip
def test_what_is_no_step_is_shown_one(line):
    assert "expected a step such as ties or ties(density=0.3); join them with then" in refusal(line)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("TIES", "ties"),
        ("clip then Ties(Density=0.3)", "ties(density=0.3)"),
        ("clip THEN ties(density=0.3) Then nesterov", "clip then ties(density=0.3) then nesterov"),
        ("TIED", None),
        ("clip AND ties", None),
        ("clip THEN tied", None),
    ],
)
def test_other_letters_are_told_the_lower_case(line: str, meant: str | None):
    told = refusal(line)
    assert told.endswith(f"join them with then; did you mean {meant}?" if meant else "join them with then")


@pytest.mark.parametrize("line", ["tie", "clip then tie", "tie(density=0.3)"])
def test_an_unknown_method_is_told_the_known_ones(line):
    assert refusal(line) == f"fusion method 'tie' is not known; did you mean ties? known are {', '.join(METHODS)}"


def test_an_unknown_parameter_is_told_the_known_ones():
    assert refusal("clip then trimmed-mean(beta=0.1)") == "trimmed-mean has no parameter 'beta'; it has trim"
    assert refusal("median(trim=0.1)") == "median has no parameter 'trim'; it has none"
    assert refusal("trimmed-mean(=0.1)") == "trimmed-mean has no parameter ''; it has trim"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ties(density=0)", "ties: density=0: Input should be greater than 0"),
        ("ties(density=1.5)", "ties: density=1.5: Input should be less than or equal to 1"),
        ("dare(drop=1)", "dare: drop=1: Input should be less than 1"),
        ("ties(density=much)", "ties: density=much: Input should be a valid number"),
        ("ties(density=)", "ties: density=: Input should be a valid number"),
        ("ties(density=nan)", "ties: density=nan: Input should be a finite number"),
        ("task-arithmetic(scale=inf)", "task-arithmetic: scale=inf: Input should be a finite number"),
        ("ties(merge=median)", "ties: merge=median: Input should be 'mean' or 'sum'"),
        ("ties(variant=own)", "ties: variant=own: Input should be 'paper' or 'mergekit'"),
        ("krum(byzantine=0.5)", "krum: byzantine=0.5: Input should be a valid integer"),
        ("dare(rescale=perhaps)", "dare: rescale=perhaps: Input should be a valid boolean"),
        ("della(density=0.99)", "della: Value error, density ± epsilon are probabilities"),
    ],
)
def test_a_value_that_cannot_be_is_told_what_can(line, says):
    assert refusal(f"clip then {line}" if line.startswith("ties") else line).startswith(says)


@pytest.mark.parametrize("params", ["density", "density=0.2,density=0.3", "density=0.2,merge"])
def test_parameters_stand_once_each_with_a_value(params):
    assert "expected each parameter once, as key=value; got" in refusal(f"ties({params})")


def test_parameters_beside_the_line_go_to_every_step_that_has_them():
    recipe = parse("breadcrumbs then ties then nesterov", params={"density": "0.5", "lr": "0.1"})
    assert recipe.steps == (Breadcrumbs(density=0.5), Ties(density=0.5), Nesterov(lr=0.1))


def test_what_the_line_says_counts_more_than_what_stands_beside_it():
    recipe = parse("breadcrumbs(density=0.1) then ties", params={"density": "0.5", "variant": "mergekit"})
    assert recipe.steps == (Breadcrumbs(density=0.1, variant="mergekit"), Ties(density=0.5, variant="mergekit"))
    recipe = parse("dare(variant=paper) then ties", params={"variant": "mergekit"})
    assert recipe.steps == (Dare(variant="paper"), Ties(density=1.0, variant="mergekit"))


def test_a_variant_goes_to_those_that_have_one_and_brings_its_defaults():
    recipe = parse("clip then della then task-arithmetic", params={"variant": "mergekit"})
    assert recipe.steps == (Clip(), Della(epsilon=0.15, variant="mergekit"), TaskArithmetic(variant="mergekit"))
    recipe = parse("trim then dare then ties", params={"variant": "mergekit"})
    assert [step.density if hasattr(step, "density") else step.drop for step in recipe.steps] == [1.0, 0.0, 1.0]


def test_flavour_stays_another_word_for_variant():
    """Manifests of earlier releases have it in their recipes."""
    assert parse("ties(flavour=mergekit)") == parse("ties(variant=mergekit)")
    assert parse("clip then ties", params={"flavour": "mergekit"}) == parse("clip then ties(variant=mergekit)")
    assert parse("dare(flavour=paper) then ties", params={"variant": "mergekit"}).transforms == (Dare(),)
    assert "expected each parameter once" in refusal("ties(flavour=paper, variant=paper)")
    assert refusal("mean(flavour=paper)") == "mean has no parameter 'flavour'; it has absent"


def test_a_parameter_that_no_step_has_is_told_the_known_ones():
    for key in ("desnity", "flavour"):
        assert refusal("weighted-mean then nesterov", params={key: "1"}) == (
            f"no step of 'weighted-mean then nesterov' has a parameter {key!r}; "
            "known are absent, by, lr, momentum, normalize"
        )
        assert "known are none" in refusal("median", params={key: "1"})


def test_a_parameter_beside_the_line_is_checked_too():
    assert refusal("ties", params={"density": "2"}).startswith("ties: density=2: Input should be less than")
    assert refusal("ties", params={"variant": "own"}).startswith("ties: variant=own: Input should be 'paper' or")


def test_a_recipe_is_written_with_every_parameter():
    recipe = Recipe(transforms=(Dare(rescale=False),), combiner=WeightedMean(), outers=(Nesterov(),))
    assert format_recipe(recipe, METHODS) == (
        "dare(drop=0.5, rescale=false, variant=paper) then weighted-mean(by=examples, absent=zero)"
        " then nesterov(lr=0.7, momentum=0.9)"
    )


def test_a_parameter_that_is_not_set_is_not_written():
    assert format_recipe(parse("clip then median"), METHODS) == "clip then median"


def test_blocks_hold_whole_rows_if_one_step_asks_for_them():
    assert parse("clip then breadcrumbs then ties").whole_rows
    assert not parse("clip then ties then nesterov").whole_rows
