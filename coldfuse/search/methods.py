"""Fusion by evaluation: searches that try models and keep what scores best.

A search stands in a recipe where a combiner stands, `trim then greedy-soup then interpolate`, and ends with a request
that has what it found there, for `fuse_folders` as any other. Every candidate is fused by the engine into a temporary
folder beside the result, and removed when it has its score. The score is a plain function of a model folder
(`coldfuse.evaluation.probe.Scorer`), so that a quality gate can judge by the same.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from coldfuse.engine.execution import Executor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders, require_absent
from coldfuse.engine.inputs import in_fusing_order, open_inputs
from coldfuse.engine.outputs import Output
from coldfuse.engine.recipes import known_methods
from coldfuse.engine.staging import scratch_beside
from coldfuse.engine.tied import find_tied
from coldfuse.errors import FusionError, UserInputError
from coldfuse.fusion.average.mean import Mean
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.method import Combiner
from coldfuse.fusion.recipe import Recipe, parse_recipe
from coldfuse.tensors.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from coldfuse.evaluation.probe import Scorer


class Search(Combiner):
    """A combiner that is found by looking at data; its fields are the search's parameters."""

    needs: ClassVar[str]
    """What it works with, in a few words."""

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


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate that was fused and scored."""

    what: str
    """The model that was added, or the value that was tried."""
    score: float
    kept: bool
    """Whether it was better than all before it."""


Told = Callable[[Trial], None]
"""Is told of each trial as it ends."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search ended with."""

    request: FolderFusion
    """What is to be fused now."""
    weights: tuple[float, ...]
    """How much each model counts, in the order of the request; the mean over tensors where they differ."""
    score: float
    trace: tuple[Trial, ...] = ()


def read_search(line: str, *, params: Mapping[str, str] | None = None) -> Recipe:
    """Read a recipe of known methods and searches."""
    return parse_recipe(line, known_methods() | SEARCHES, params=params)


def greedy_soup(request: FolderFusion, score: Scorer, executor: Executor, *, told: Told | None = None) -> Found:
    """Find the models whose mean scores best, adding one after the other in the order of their own scores.

    The result does not depend on the order of the models: equal scores are taken in the order of the contents.
    """
    rule = request.recipe.combiner
    at_least = isinstance(rule, GreedySoup) and rule.keep == "equal"
    plain = replace(request, recipe=replace(request.recipe, combiner=Mean()))
    order = fusing_order(request)

    def among(indices: Sequence[int]) -> FolderFusion:
        return replace(plain, models=[plain.models[index] for index in indices])

    trace: list[Trial] = []
    with Candidates(request.out, score, executor) as candidates:
        alone = {index: candidates.score(among([index])) for index in order}
        soup: list[int] = []
        best = -math.inf
        for index in sorted(order, key=lambda index: -alone[index]):  # a stable sort
            reached = candidates.score(among([*soup, index])) if soup else alone[index]
            kept = reached > best or (at_least and reached == best)
            if kept:
                soup, best = [*soup, index], reached
            trace.append(Trial(what=str(request.models[index]), score=reached, kept=kept))
            if told is not None:
                told(trace[-1])
    weights = tuple(1 / len(soup) if index in soup else 0.0 for index in range(len(order)))
    return Found(request=among(soup), weights=weights, score=best, trace=tuple(trace))


def fusing_order(request: FolderFusion) -> list[int]:
    """Return the models' indices in the order in which the engine fuses them. Refuses what a search cannot heed."""
    if request.weights is not None or request.statistics:
        raise UserInputError("a search finds the models' weights itself: leave --weights and --statistics out")
    folder = open_checkpoint(request.base)
    weights = [1.0] * len(request.models)
    inputs = open_inputs(folder, request.models, weights, request.recipe, (), tied=find_tied(folder))
    place = {id(item): index for index, item in enumerate(inputs)}
    return [place[id(item)] for item in in_fusing_order(inputs)]


class Candidates:
    """Fuses and scores candidates, one at a time, in a temporary folder beside the result. A context manager."""

    def __init__(self, out: Path, score: Scorer, executor: Executor) -> None:
        require_absent(out)
        self._score, self._executor = score, executor
        self._scratch = scratch_beside(out, "trying")

    def __enter__(self) -> Candidates:
        self._folder = self._scratch.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._scratch.__exit__(None, None, None)

    def score(self, request: FolderFusion) -> float:
        """Fuse, score and forget one candidate."""
        with fused_in(self._folder, request, self._executor) as model_dir:
            score = self._score(model_dir)
        if not math.isfinite(score):
            raise FusionError(f"a candidate's score is {score}, expected a finite number; its weights may be broken")
        return score


@contextmanager
def fused_in(scratch: Path, request: FolderFusion, executor: Executor) -> Iterator[Path]:
    """Fuse into a model folder that is there for the block only, whatever the request is to end in."""
    folder = scratch / "candidate"
    try:
        fuse_folders(replace(request, out=folder, output=Output()), executor)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
