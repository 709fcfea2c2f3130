"""Ranking models as bases: what `coldfuse.rank` and the command run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from coldfuse.api.candidates import Candidates, Fetch
from coldfuse.api.model_names import as_text, check_names
from coldfuse.api.places import Place
from coldfuse.core.words import plural
from coldfuse.data.dataset import TextDataset
from coldfuse.errors import UserInputError
from coldfuse.evaluation.bases import Data, RankSettings, rank_bases
from coldfuse.evaluation.ranking import Ranking
from coldfuse.training.tasks import DEFAULT_TASK, find_task
from coldfuse.training.tasks.targets import TextsWithTargets
from coldfuse.training.tasks.task import DataRequest

TASKS = (DEFAULT_TASK, "regression")
"""Tasks that bases are ranked for."""

Given = Place | Sequence[Place] | Data


@dataclass(frozen=True, kw_only=True)
class RankRequest:
    """What is to be ranked, and by which data."""

    models: Sequence[Place]
    """Models, whatever names them."""
    data: Given
    """Labelled texts, as files or read already."""
    base: Place | None = None
    """Base of deltas and adapters."""
    proxy: Given | None = None
    """Labelled texts of another task."""
    task: str = DEFAULT_TASK
    """What the labels are: classes, or of `regression` numbers to predict."""
    settings: RankSettings = field(default_factory=RankSettings)
    """What else decides the scores."""


def run_ranking(request: RankRequest, fetch: Fetch, *, on_model: Callable[[str], None] = lambda _: None) -> Ranking:
    """Read the data, bring the models, and rank them. Raises as `coldfuse.rank`.

    Args:
        request: What is asked for.
        fetch: Brings a release of a federation.
        on_model: Called with each model's name before it is loaded.
    """
    _check(request.settings)
    names = check_names(request.models, fewest=1)
    data = _read(request.data, task=request.task)
    proxy = None if request.proxy is None else _read(request.proxy, task=DEFAULT_TASK)
    if isinstance(proxy, TextsWithTargets):
        raise UserInputError("the proxy has numbers, expected classes to fit a linear probe to")
    with TemporaryDirectory(prefix="coldfuse-rank-") as scratch:
        candidates = Candidates(fetch=fetch, folder=Path(scratch), base=as_text(request.base))
        models = {model.name: model.folder for model in candidates.find(names)}
        return rank_bases(models, data, request.settings, proxy=proxy, on_model=on_model)


def read_labelled(request: DataRequest, *, task: str) -> Data:
    """Read labelled texts of a task. Raises `UserInputError` where they cannot be read, or for a task of others."""
    if task not in TASKS:
        raise UserInputError(f"task {task!r}: bases are ranked for {' or '.join(TASKS)}")
    found: Data = find_task(task).read(request)
    return found


def _read(given: Given, *, task: str) -> Data:
    if isinstance(given, TextDataset | TextsWithTargets):
        return given
    places: Sequence[Place] = [given] if isinstance(given, str | os.PathLike) else given
    files: list[Path | str] = [place if isinstance(place, str) else Path(place) for place in places]
    return read_labelled(DataRequest(data=files), task=task)


def _check(settings: RankSettings) -> None:
    if settings.num_examples < 2:
        raise UserInputError(f"{plural(settings.num_examples, 'example')}, expected 2 or more")
    if not settings.seeds or len(set(settings.seeds)) < len(settings.seeds):
        raise UserInputError(f"seeds {', '.join(map(str, settings.seeds)) or 'none'}: expected different numbers")
    if settings.num_neighbours < 1:
        raise UserInputError(f"{settings.num_neighbours} neighbours, expected 1 or more")
