"""Searches as steps of a recipe: one stands where a combiner stands, `trim then greedy-soup then interpolate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from coldfuse.engine.recipes import known_methods
from coldfuse.errors import FusionError
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.recipe import Recipe, parse_recipe


class Search(Combiner):
    """A combiner that is found by looking at data; its fields are the search's parameters."""

    needs: ClassVar[str]
    """Data and memory that it works with, in a few words."""

    def fuse(self, block: Block) -> Float64:  # noqa: ARG002
        """Refuse: there is no formula, only what a search finds."""
        raise FusionError(f"{type(self).__name__} is a search, not a formula; give it --data in coldfuse fuse")


class GreedySoup(Search):
    """Add models to a mean, best first, as long as each makes it better."""

    summary = "the mean of the models that make it better, tried best first"
    source = "arXiv 2203.05482, recipe 1"
    needs = "labelled held-out data; two fusions and scores a model"

    keep: Literal["better", "equal"] = "better"
    """A model stays if the score rises (the paper), or if it does not fall (arXiv 2212.10445)."""


class LearnedSoup(Search):
    """Learn how much each model counts in each tensor."""

    summary = "averages with weights for each tensor, learned on held-out data"
    source = "arXiv 2203.05482, section 2 and appendix I"
    needs = "labelled held-out data; all models in memory"

    epochs: int = Field(default=5, ge=1)
    """Times that the data are gone through."""
    lr: float = Field(default=0.05, gt=0)
    """AdamW's learning rate."""
    batch: int = Field(default=32, ge=1)
    """Examples of a step."""
    per: Literal["tensor", "model"] = "tensor"
    """Weights of their own for each tensor, or one for each model."""


class AdaMerging(Search):
    """Learn how much each delta counts in each tensor, without labels."""

    summary = "a sum with coefficients for each tensor, learned by making predictions certain"
    source = "arXiv 2310.02575, equations 3 to 5"
    needs = "for each task texts, and a head or labels to fit one; all models in memory"

    start: float = Field(default=0.3, ge=0, le=1)
    """λ at first."""
    steps: int = Field(default=500, ge=1)
    """Steps of Adam."""
    lr: float = Field(default=1e-3, gt=0)
    """Adam's learning rate."""
    batch: int = Field(default=16, ge=1)
    """Texts of each task in a step."""
    per: Literal["tensor", "model"] = "tensor"
    """Coefficients of their own for each tensor (layer-wise), or one for each model (task-wise)."""


SEARCHES: dict[str, type[Search]] = {
    "greedy-soup": GreedySoup,
    "learned-soup": LearnedSoup,
    "adamerging": AdaMerging,
}
"""Searches by their names in a recipe."""


def read_search(line: str, *, params: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe of known methods and searches.

    Args:
        line: The recipe, such as `trim then greedy-soup(keep=equal)`.
        params: Parameters by name beside those in the line.

    Raises:
        UserInputError: A name or a value is not known.
    """
    return parse_recipe(line, known_methods() | SEARCHES, params=params)
