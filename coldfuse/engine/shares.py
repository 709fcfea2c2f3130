"""The share of each delta that is taken, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from coldfuse.engine.inputs import Input
from coldfuse.engine.job import Measured
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.robust.shorten import Shorten


def shortened(recipe: Recipe, ordered: Sequence[Input]) -> Recipe:
    """Return the recipe with a first step that takes a share of some deltas; the very same where all are whole."""
    if all(item.share == 1 for item in ordered):
        return recipe
    return replace(recipe, transforms=(Shorten(), *recipe.transforms))


def shares_of(ordered: Sequence[Input]) -> Measured:
    """Return the shares as what the recipe's first step looks up."""
    if all(item.share == 1 for item in ordered):
        return {}
    return {(0, ""): {"share": np.array([item.share for item in ordered])}}
