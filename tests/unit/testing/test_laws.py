"""Every law can be broken: for each there is a method that breaks it, and is told so."""

from __future__ import annotations

from functools import partial
from itertools import count

import numpy as np
import pytest

from coldfuse.errors import FusionError
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.measures import gram
from coldfuse.fusion.method import Combiner, Outer, Transform
from coldfuse.testing.laws import AVERAGE_LAWS, LAWS, SYMMETRY_LAWS, LawBrokenError
from coldfuse.testing.trial import COUNTS, counts_of

_CALLS = count()
EVERY_LAW = LAWS | AVERAGE_LAWS | SYMMETRY_LAWS


class Average(Combiner):
    """What the broken methods would be if they were not."""

    summary = "the mean"
    source = "here"

    def fuse(self, block):
        return block.deltas_CN.mean(axis=0)


class Nameless(Combiner):
    def fuse(self, block):
        return block.deltas_CN.mean(axis=0)


class WithoutDefault(Average):
    share: float
    """What a user would have to give."""


class WithoutMeaning(Average):
    share: float = 0.5


class Moody(Average):
    def fuse(self, block):
        return super().fuse(block) * (1 + next(_CALLS))


class CentredPieces(Average):
    def fuse(self, block):
        return super().fuse(block) - block.deltas_CN.mean()


class WideRows(Average):
    whole_rows = True

    def fuse(self, block):
        return super().fuse(block) * (1 + block.first)


class OverwritesBase(Average):
    def fuse(self, block):
        block.base_N[:] = 0.0
        return super().fuse(block)


class OverwritesWeights(Average):
    def fuse(self, block):
        block.info.weights_C[:] = 2.0
        return super().fuse(block)


class Drifts(Average):
    def fuse(self, block):
        return super().fuse(block) + 1e-30


class SpreadsChange(Average):
    def measures(self):
        return (gram("model"),)

    def fuse(self, block):
        return super().fuse(block) + block.info.measured["gram"].sum()


class DividesByTheLargest(Average):
    def fuse(self, block):
        with np.errstate(all="ignore"):
            return super().fuse(block) / np.abs(block.deltas_CN).max(axis=0)


class NeedsTwoElements(Average):
    def fuse(self, block):
        if len(block.base_N) < 2:
            raise FusionError("expected two elements at least, got one; use another method")
        return super().fuse(block)


class SaysNothing(Average):
    def fuse(self, block):
        if block.deltas_CN.shape[0] > 1 and (block.deltas_CN == block.deltas_CN[0]).all():
            raise FusionError("no")
        return super().fuse(block)


class IgnoresWeights(Average):
    is_weighted = True


class LooksAtOthers(Transform):
    summary = "the mean of all"
    source = "here"

    def transform(self, deltas_RN, rows_R, block):
        deltas_RN[:] = block.deltas_CN.sum(axis=0)


class MixesThem(LooksAtOthers):
    def transform(self, deltas_RN, rows_R, block):
        deltas_RN -= deltas_RN.mean(axis=0)


class TouchesOthers(LooksAtOthers):
    def transform(self, deltas_RN, rows_R, block):
        block.deltas_CN[0] = 0.0


class NeverRests(Outer):
    summary = "a step of its own"
    source = "here"
    slots = ("drift",)

    def step(self, delta_N, state, *, age):
        return delta_N + state[0], (state[0] + 1e-3,)


class ChangesItsState(NeverRests):
    def step(self, delta_N, state, *, age):
        state[0][:] += delta_N
        return state[0], state


class Adds(Average):
    def fuse(self, block):
        return block.deltas_CN.sum(axis=0)


class AddsByWeight(Average):
    is_weighted = True

    def fuse(self, block):
        return (block.deltas_CN * block.info.weights_C[:, None]).sum(axis=0)


class CutsAtOne(Average):
    def fuse(self, block):
        return super().fuse(block).clip(-1e-3, 1e-3)


class TakesTheFirst(Average):
    def fuse(self, block):
        return block.deltas_CN[0]


BROKEN = [
    ("describes itself", Nameless),
    ("describes itself", partial(WithoutDefault, share=0.5)),
    ("describes itself", WithoutMeaning),
    ("deterministic", Moody),
    ("cut", CentredPieces),
    ("cut", WideRows),
    ("arguments", OverwritesBase),
    ("arguments", OverwritesWeights),
    ("zero", Drifts),
    ("unchanged tensor", SpreadsChange),
    ("finite", DividesByTheLargest),
    ("little", NeedsTwoElements),
    ("degenerate", SaysNothing),
    ("weight zero", IgnoresWeights),
    ("own contribution", LooksAtOthers),
    ("own contribution", MixesThem),
    ("own contribution", TouchesOthers),
    ("rest", NeverRests),
    ("rest", ChangesItsState),
    ("agreement", Adds),
    ("relative weights", AddsByWeight),
    ("impossible weights", AddsByWeight),
    ("scale", CutsAtOne),
    ("order", TakesTheFirst),
]


@pytest.mark.parametrize(("law", "make"), BROKEN)
def test_a_method_that_breaks_a_law_is_told_so_by_name(law, make):
    with pytest.raises(LawBrokenError, match=type(make()).__name__):
        EVERY_LAW[law](make)


def test_every_law_can_be_broken():
    assert {law for law, _ in BROKEN} == set(EVERY_LAW)


@pytest.mark.parametrize("law", EVERY_LAW.values(), ids=EVERY_LAW)
def test_an_honest_method_breaks_none(law):
    law(Mean)


def test_the_numbers_of_contributions_that_a_method_takes_are_found_out():
    class Pair(Average):
        def fuse(self, block):
            if len(block.deltas_CN) != 2:
                raise FusionError(f"a pair is 2 contributions, got {len(block.deltas_CN)}; leave some out")
            return super().fuse(block)

    assert counts_of(Average()) == COUNTS
    assert counts_of(Pair()) == (2,)
    for law in EVERY_LAW.values():
        law(Pair)


def test_a_method_that_takes_nothing_is_told_why():
    class Never(Average):
        def fuse(self, block):
            raise FusionError("this method never takes any contributions")

    with pytest.raises(LawBrokenError, match=r"takes none of .* contributions: this method never takes any"):
        LAWS["zero"](Never)
