"""Fusing by what data say: the options of `coldfuse fuse` that name data, and the searches that look at them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.data.dataset import TextDataset
    from coldfuse.engine.execution import Executor
    from coldfuse.engine.folder_fusion import FolderFusion
    from coldfuse.search.resident import Task
    from coldfuse.search.trials import Found, Trial

_PANEL = "Search, on held-out data"

DATA = typer.Option(
    [],
    "--data",
    help="Held-out examples that --tune, greedy-soup, learned-soup and adamerging look at: CSV, TSV, JSON lines or "
    "Parquet; once for each task.",
    rich_help_panel=_PANEL,
)
HEAD = typer.Option(
    [],
    "--head",
    help="For learned-soup and adamerging, each task's head.safetensors, in the order of --data. Without it a linear "
    "head is fitted to half of the data; with it, adamerging needs no labels.",
    rich_help_panel=_PANEL,
)
TUNE = typer.Option(
    None,
    "--tune",
    help="Try values of a parameter and keep the best: scale=0.1:1.0:0.1, or ties.density=0.1,0.2,0.5.",
    rich_help_panel=_PANEL,
)
TEXT_COLUMN = typer.Option(None, help="Found by itself if it has a usual name.", rich_help_panel=_PANEL)
TEXT_PAIR_COLUMN = typer.Option(None, help="Second text of pair tasks.", rich_help_panel=_PANEL)
LABEL_COLUMN = typer.Option(None, help="Found by itself if it has a usual name.", rich_help_panel=_PANEL)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the user gave for a search to look at."""

    data: list[Path]
    head: list[Path]
    tune: str | None
    text_column: str | None = None
    text_pair_column: str | None = None
    label_column: str | None = None


def require_one_fusion(request: FolderFusion, evidence: Evidence) -> None:
    """Refuse --plan for what is a search, and data that nothing looks at."""
    from coldfuse.search.methods import Search

    if isinstance(request.recipe.combiner, Search) or evidence.tune is not None:
        what = "this method" if evidence.tune is None else "--tune"
        raise UserInputError(f"--plan foretells one fusion, and {what} makes many to choose from; leave --plan out")
    _check(evidence, is_search=False)


def search_json(found: Found) -> dict[str, object]:
    """Say as JSON what a search has tried and found; weights are in the order in which the user named the models."""
    trials = [asdict(trial) for trial in found.trace]
    return {"search": {"score": found.score, "weights": list(found.weights), "trials": trials}}


def searched(
    request: FolderFusion, executor: Executor, evidence: Evidence, *, memory_bytes: int | None, as_json: bool = False
) -> Found | None:
    """Return what the search that the request asks for has found; None: it asks for none.

    The trace is printed as it comes; to standard error if standard output is for JSON.
    """
    from coldfuse.search.methods import Search

    is_search = isinstance(request.recipe.combiner, Search)
    _check(evidence, is_search=is_search)
    if not is_search and evidence.tune is None:
        return None

    def say(trial: Trial) -> None:
        typer.echo(f"{trial.score:>9.4f} {'+' if trial.kept else ' '} {trial.what}", err=as_json)

    found = _search(request, executor, evidence, memory_bytes, say)
    if is_search:
        typer.echo("weights:", err=as_json)
        for model, weight in zip(request.models, found.weights, strict=True):
            typer.echo(f"{weight:>9.4f}   {model}", err=as_json)
    return found


def _check(evidence: Evidence, *, is_search: bool) -> None:
    looks = is_search or evidence.tune is not None
    if looks and not evidence.data:
        raise UserInputError("a search chooses by held-out data, and there are none; give --data FILE")
    if not looks and (evidence.data or evidence.head):
        raise UserInputError(
            "--data, --head: nothing here looks at data; leave them out, or give --tune or a --method that searches"
        )
    if evidence.head and len(evidence.head) != len(evidence.data):
        raise UserInputError(f"--head: expected one for each --data, got {len(evidence.head)} for {len(evidence.data)}")


def _search(
    request: FolderFusion,
    executor: Executor,
    evidence: Evidence,
    memory_bytes: int | None,
    callback: Callable[[Trial], None],
) -> Found:
    from coldfuse.config import prepare_training
    from coldfuse.engine.folder_fusion import require_absent
    from coldfuse.search.learned import learn
    from coldfuse.search.methods import GreedySoup, LearnedSoup
    from coldfuse.search.scored import greedy_soup, parse_grid, tune

    require_absent(request.out)
    prepare_training()
    combiner = request.recipe.combiner
    if evidence.tune is None and not isinstance(combiner, GreedySoup):
        from coldfuse.search.learned import learn

        tasks = _tasks(evidence, with_labels=isinstance(combiner, LearnedSoup))
        return learn(request, tasks, executor, memory_bytes=memory_bytes, callback=callback)
    if evidence.head:
        raise UserInputError("--head: this search scores models by linear probes that it fits; leave --head out")
    key, values = parse_grid(evidence.tune) if evidence.tune is not None else ("", [])
    from coldfuse.evaluation.probe import probe_scorer

    score = probe_scorer(*(_labelled(evidence, path) for path in evidence.data))
    if key:
        return tune(request, key, values, score, executor, callback=callback)
    return greedy_soup(request, score, executor, callback=callback)


def _labelled(evidence: Evidence, path: Path, label_names: tuple[str, ...] | None = None) -> TextDataset:
    from coldfuse.data.reading import read_dataset

    return read_dataset(
        path, text_column=evidence.text_column, text_pair_column=evidence.text_pair_column,
        label_column=evidence.label_column, label_names=label_names,
    )  # fmt: skip


def _tasks(evidence: Evidence, *, with_labels: bool) -> list[Task]:
    """Read each task's texts, and its head or the labels that one is fitted to."""
    from coldfuse.data.reading import read_texts
    from coldfuse.search.resident import Task
    from coldfuse.training.head import read_head

    if not evidence.head:
        return [Task(data=_labelled(evidence, path)) for path in evidence.data]
    tasks = []
    for path, head_path in zip(evidence.data, evidence.head, strict=True):
        head, labels = read_head(head_path)
        if with_labels:
            data = _labelled(evidence, path, labels)
        else:
            data = read_texts(path, text_column=evidence.text_column, text_pair_column=evidence.text_pair_column)
        tasks.append(Task(data=data, head=head))
    return tasks
