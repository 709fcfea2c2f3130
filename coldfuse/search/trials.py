"""The candidates of a search: each is fused by the engine into a temporary folder beside the result, and removed again.

A score is a plain function of a model folder (`coldfuse.evaluation.probe.Scorer`), so that a quality gate can judge by
the same.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.engine.execution import Executor
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders, open_base
from coldfuse.engine.informed import open_inputs
from coldfuse.engine.inputs import in_fusing_order
from coldfuse.engine.outputs import Output
from coldfuse.engine.staging import scratch_beside
from coldfuse.engine.tied import find_tied
from coldfuse.errors import FusionError, UserInputError
from coldfuse.fusion.average.task_arithmetic import TaskArithmetic
from coldfuse.tensors.folders import is_remote

if TYPE_CHECKING:
    from coldfuse.evaluation.probe import Scorer


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate and its score."""

    what: str
    """Name of the model that was added, or value that was tried."""
    score: float
    kept: bool
    """True if it was better than all before it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search ended with."""

    request: FolderFusion
    """Request for the fusion of what was found."""
    weights: tuple[float, ...]
    """Weight of each model, in the order of the request; the mean over tensors where they differ."""
    score: float
    trace: tuple[Trial, ...] = ()


class Trials:
    """Fuses candidates, one at a time, and keeps what was tried. A context manager.

    Args:
        out: Where the result is to lie; refused if anything is there.
        executor: Runs the fusions.
        callback: Called with each trial as it ends.
    """

    def __init__(self, out: Path, executor: Executor, callback: Callable[[Trial], None] | None = None) -> None:
        self.trace: list[Trial] = []
        self._executor, self._callback = executor, callback
        self._scratch = scratch_beside(out, "trying")

    def __enter__(self) -> Trials:
        self._folder = self._scratch.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._scratch.__exit__(None, None, None)

    def add(self, what: str, score: float, *, kept: bool) -> None:
        """Keep a trial in the trace."""
        self.trace.append(Trial(what=what, score=score, kept=kept))
        if self._callback is not None:
            self._callback(self.trace[-1])

    def score(self, request: FolderFusion, score: Scorer) -> float:
        """Fuse, score and forget one candidate."""
        with self.fused(request) as model_dir:
            reached = score(model_dir)
        if not math.isfinite(reached):
            raise FusionError(f"a candidate's score is {reached}, expected a finite number; its weights may be broken")
        return reached

    @contextmanager
    def fused(self, request: FolderFusion) -> Iterator[Path]:
        """Fuse into a model folder that is there for the block only, whatever the request is to end in."""
        folder = self._folder / "candidate"
        try:
            self._fuse(request, folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def local_base(self, request: FolderFusion) -> Path:
        """Return a folder that torch can load the base from: it, or a copy of one in S3, in FP8 or to be untied."""
        if not is_remote(request.base) and not request.untie and not open_base(request).converted:
            return Path(request.base)
        still = replace(request.recipe, transforms=(), combiner=TaskArithmetic(scale=0), outers=())
        folder = self._folder / "base"
        self._fuse(replace(request, models=request.models[:1], recipe=still), folder)
        return folder

    def _fuse(self, request: FolderFusion, folder: Path) -> None:
        fuse_folders(replace(request, out=folder, output=Output()), self._executor)


def fusing_order(request: FolderFusion) -> list[int]:
    """Return the models' indices in the order in which the engine fuses them. Refuses what a search cannot heed."""
    if request.weights is not None or request.settings or request.shared or request.statistics:
        raise UserInputError(
            "a search finds the models' weights itself: leave --weights and --statistics out, and --weights-file"
        )
    folder = open_base(request)
    weights = [1.0] * len(request.models)
    inputs = open_inputs(folder, request.models, weights, request.recipe, (), tied=find_tied(folder))
    place = {id(item): index for index, item in enumerate(inputs)}
    return [place[id(item)] for item in in_fusing_order(inputs)]


def num_fused_elements(request: FolderFusion) -> int:
    """Return the number of the base's elements that fusing changes."""
    return sum(spec.num_elements for spec in open_base(request).schema.values() if spec.is_fused)
