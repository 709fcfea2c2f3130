from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from coldfuse.aggregator.standing import describe, norms_after, standing
from coldfuse.core.contribution import Admission, Measured
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import sha256
from coldfuse.engine.recipes import read_recipe

RULES = ScreeningRules()
RECIPES = st.sampled_from(["mean", "weighted-mean", "weighted-mean(by=score)", "median"]).map(read_recipe)
PAST = st.sampled_from([{}, {"full, dense": (1.0, 2.0, 1.0)}])


def admission(number: int, norm: float | None, num_examples: int, score: float | None) -> Admission:
    measured = None if norm is None else Measured(kind="full, dense", norm=norm, num_changed=1000, largest=norm)
    return Admission(
        contribution=sha256(f"c{number}".encode()), contributor=f"n{number}", num_examples=num_examples, score=score,
        delta_digest=sha256(f"d{number}".encode()), measured=measured,
    )  # fmt: skip


ADMISSIONS = st.lists(
    st.tuples(
        st.none() | st.floats(1e-9, 1e31),
        st.integers(1, 10**400),
        st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ),
    min_size=1,
    max_size=12,
).map(lambda made: [admission(number, *each) for number, each in enumerate(made)])


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(ADMISSIONS, RECIPES, PAST, st.randoms())
def test_whatever_was_admitted_counts_finitely_and_whatever_its_order(admissions, recipe, past, rng) -> None:
    counted = standing(admissions, recipe, RULES, past)
    shuffled = random.Random(rng.random()).sample(admissions, len(admissions))
    assert standing(shuffled, recipe, RULES, past) == counted
    weights = [each.weight for each in counted]
    assert 0 < sum(weights) < 2**60
    assert sum(weights) == math.fsum(weights) or not all(map(float.is_integer, weights))  # numbers add up exactly
    assert all(0 < each.share <= 1 for each in counted)
    assert len(describe(counted)) < 1500
    for each in counted:
        assert each.fused().weight == each.weight
    after = norms_after(counted, RULES, past)
    assert all(0 < norm < math.inf for norms in after.values() for norm in norms)


@settings(max_examples=50, derandomize=True, deadline=None, database=None)
@given(ADMISSIONS, RECIPES)
def test_without_screening_nobody_counts_less_than_they_claim(admissions, recipe) -> None:
    counted = standing(admissions, recipe, ScreeningRules.off(), {})
    assert {(each.share, each.weight == each.claimed) for each in counted} == {(1.0, True)}
    assert (describe(counted), norms_after(counted, ScreeningRules.off(), {})) == ("", {})


def test_a_score_multiplies_a_weight_that_none_then_has_more_than_three_medians_of() -> None:
    made = [admission(number, None, 100, None) for number in range(4)]
    scored = [made[0].model_copy(update={"score_weight": 3.0}), made[1].model_copy(update={"score_weight": 1 / 3}),
              made[2].model_copy(update={"score_weight": 0.5}), made[3]]  # fmt: skip
    counted = {c.admission.contributor: c for c in standing(scored, read_recipe("weighted-mean"), RULES, {})}
    assert [counted[f"n{number}"].weight for number in range(4)] == [150.0, 100 * (1 / 3), 50.0, 100.0]
    assert counted["n0"].fused().score_weight == 3.0
    assert counted["n3"].fused().score_weight is None
