"""Fuse a round by a recipe and score the result; what was scored once is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.errors import FusionError
from coldfuse.experiments.fusion_kept import Accuracies, Kept
from coldfuse.experiments.fusion_models import WEIGHTS, read_head
from coldfuse.experiments.fusion_round import Contribution, Round
from coldfuse.experiments.fusion_statistics import statistics_file
from coldfuse.experiments.fusion_training import accuracy
from coldfuse.fusion.recipe import Recipe
from coldfuse.training.loading import load_body


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How well a method did in one round."""

    recipe: str
    """With the parameters that validation chose."""
    accuracy: Mapping[str, float]
    """Test accuracy by task."""

    @property
    def mean(self) -> float:
        """The mean over the tasks."""
        return fmean(self.accuracy.values())


def best(given: Round, lines: Sequence[str], *, threads: int) -> Outcome:
    """Fuse by each recipe, keep the one with the highest mean accuracy on validation, and score that on the test sets.

    A recipe alone needs no choice, and so no validation.
    """
    scores = _Scores(given, threads)
    if len(lines) > 1:
        on_validation = [fmean(scores.of(line, "validation").values()) for line in lines]
        lines = [lines[on_validation.index(max(on_validation))]]
    return Outcome(recipe=lines[0], accuracy=scores.of(lines[0], "test"))


def single_accuracies(given: Round) -> dict[str, float]:
    """Return the test accuracy of each contributor's model: on its own task, or on the one that all share."""
    kept = Kept(given.folder / "single.json")
    return {item.name: kept.get(item.name, partial(_single, given, item))["test"] for item in given.contributions}


def _single(given: Round, item: Contribution) -> Accuracies:
    (scored,) = [scored for scored in given.scored if scored.head is None or scored.name == item.name]
    head = scored.head or read_head(item.folder / WEIGHTS)
    return {"test": accuracy(load_body(item.folder), head, scored.test)}


class _Scores:
    """The scores of a round, in a file."""

    def __init__(self, given: Round, threads: int) -> None:
        self.round, self.threads = given, threads
        self.kept = Kept(given.folder / "scores.json")

    def of(self, line: str, part: str) -> Accuracies:
        """Return the accuracies on validation or test."""
        recipe = read_recipe(line)
        return self.kept.get(f"{part}: {write_recipe(recipe)}", lambda: self._fuse_and_score(recipe, part))

    def _fuse_and_score(self, recipe: Recipe, part: str) -> Accuracies:
        fused = self.round.folder / f"fused-{os.getpid()}"
        try:
            self._fuse(recipe, fused)
            return self._score(fused, part)
        finally:
            shutil.rmtree(fused, ignore_errors=True)

    def _fuse(self, recipe: Recipe, out: Path) -> None:
        kind = next((step.statistic for step in recipe.steps if step.statistic), None)
        if kind == "variance":
            raise FusionError("variances along the training are not recorded here; take fisher")
        with_head = self.round.scored[0].head is None
        max_length = self.round.max_length
        statistics = [
            statistics_file(item, kind, max_length=max_length, with_head=with_head)
            for item in self.round.contributions
            if kind
        ]
        models = [item.folder for item in self.round.contributions]
        request = FolderFusion(base=self.round.base, models=models, out=out, recipe=recipe, statistics=statistics)
        fuse_folders(request, ThreadExecutor(self.threads))

    def _score(self, fused: Path, part: str) -> Accuracies:
        body = load_body(fused)
        return {
            item.name: accuracy(body, item.head or read_head(fused / WEIGHTS), getattr(item, part))
            for item in self.round.scored
        }
