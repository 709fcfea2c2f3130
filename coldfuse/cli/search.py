"""Fusing by what data say: the searches that look at them."""

from __future__ import annotations

from dataclasses import asdict

import typer

from coldfuse.cli.data_view import show_data
from coldfuse.cli.options.fuse import Evidence
from coldfuse.config import prepare_training
from coldfuse.data.dataset import TextDataset
from coldfuse.engine.execution import Executor
from coldfuse.engine.folder_fusion import FolderFusion, require_absent
from coldfuse.errors import UserInputError
from coldfuse.search.methods import Search
from coldfuse.search.trials import Found, Trial


def require_one_fusion(request: FolderFusion, evidence: Evidence) -> None:
    """Refuse --plan for what is a search, and data that nothing looks at."""
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
    is_search = isinstance(request.recipe.combiner, Search)
    _check(evidence, is_search=is_search)
    if not is_search and evidence.tune is None:
        return None

    def say(trial: Trial) -> None:
        typer.echo(f"{trial.score:>9.4f} {'+' if trial.kept else ' '} {trial.what}", err=as_json)

    def show(data: TextDataset) -> TextDataset:
        return show_data(data, err=as_json)

    require_absent(request.out)
    prepare_training()
    from coldfuse.cli.searching import search  # noqa: PLC0415 - torch comes with a search alone

    found = search(request, executor, evidence, memory_bytes=memory_bytes, callback=say, show=show)
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
