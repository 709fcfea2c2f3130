"""Fuse a round by a recipe and score the result; what was scored once is kept.

Statistics of each contributor's data are computed where a method asks for them, with those of a head that lies among
the model's tensors:

    G = E_x x xᵀ                      the head's inputs x are the features of a text
    F_kh = E_x p_k (1 − p_k) x_h²     exact, as ∂ log p_y / ∂W = (e_y − p) xᵀ; of the bias, E_x p_k (1 − p_k)

Shape letters: N examples, H features, K classes.
"""
# ruff: noqa: N803, N806 - the names of tensors end in their shape

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor

from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.errors import FusionError
from coldfuse.experiments.fusion_models import HEAD_NAMES, WEIGHTS, Accuracies, Kept, read_head
from coldfuse.experiments.fusion_round import Contribution, Round
from coldfuse.experiments.fusion_training import SCORING_BATCH, Labelled, accuracy
from coldfuse.fusion.recipe import Recipe
from coldfuse.training.encoding import encode_all
from coldfuse.training.estimators import choose
from coldfuse.training.head import HEAD_FILE, LinearHead
from coldfuse.training.loading import load_body
from coldfuse.training.statistics import StatisticsJob, compute_statistics, write_statistics

_NUM_EXAMPLES = 256
"""Number of a contributor's examples that statistics are computed on."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How well a method did in one round."""

    recipe: str
    """Recipe with the parameters that validation chose."""
    accuracy: Mapping[str, float]
    """Test accuracy by task."""

    @property
    def mean(self) -> float:
        """Mean test accuracy over the tasks."""
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
            _statistics_file(item, kind, max_length=max_length, with_head=with_head)
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


def _statistics_file(
    contribution: Contribution, kind: Literal["fisher", "gram"], *, max_length: int, with_head: bool
) -> Path:
    """Compute a contribution's statistics, unless they are there; return the file's path."""
    path = contribution.folder.with_name(f"{contribution.folder.name}.{kind}.safetensors")
    if not path.exists():
        job = StatisticsJob(
            model_dir=contribution.folder, data=contribution.data, kind=kind, num_examples=_NUM_EXAMPLES, device="cpu",
            max_length=max_length,
        )  # fmt: skip
        info, tensors = compute_statistics(job)
        write_statistics(path, tensors | (_of_head(job) if with_head else {}), info)
    return path


def _of_head(job: StatisticsJob) -> dict[str, Tensor]:
    chosen = choose(len(job.data), job.num_examples, seed=job.seed)
    data = Labelled.of(job.data.take(chosen), job.model_dir, job.max_length)
    features_NH = encode_all(load_body(job.model_dir), data.texts, batch_size=SCORING_BATCH)
    if job.kind == "gram":
        return {HEAD_NAMES[0]: features_NH.T @ features_NH / len(chosen)}
    return dict(zip(HEAD_NAMES, head_fisher(read_head(job.model_dir / HEAD_FILE), features_NH), strict=True))


def head_fisher(head: LinearHead, features_NH: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exact diagonal Fisher information of a head's weight and bias."""
    p_NK = torch.softmax(features_NH @ head.weight.T + head.bias, dim=1)
    variance_NK = p_NK * (1 - p_NK)
    return variance_NK.T @ features_NH.square() / len(p_NK), variance_NK.mean(dim=0)
