"""Which base to start from."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from coldfuse.api.ranking import RankRequest, read_labelled, run_ranking
from coldfuse.cli.data_view import show_data
from coldfuse.cli.data_words import file_format_of, named_columns
from coldfuse.cli.fetching import fetching
from coldfuse.cli.options.compared import RankOptions
from coldfuse.cli.text_table import aligned, figure
from coldfuse.core.words import plural
from coldfuse.errors import UserInputError
from coldfuse.evaluation.bases import Data, RankSettings
from coldfuse.evaluation.ranking import RankedModel, Ranking, Score
from coldfuse.training.tasks import DEFAULT_TASK
from coldfuse.training.tasks.task import DataRequest


def rank(options: RankOptions) -> None:
    """Score models as bases."""
    seeds = _seeds(options.seeds)
    data = _read(options, options.data, task=options.task, what="data")
    proxy = _read(options, options.proxy, task=DEFAULT_TASK, what="proxy") if options.proxy else None
    settings = RankSettings(
        names=tuple(options.score), num_examples=options.examples, seeds=seeds, num_neighbours=options.neighbours,
        max_length=options.max_length, threads=options.threads, device=options.device,
    )  # fmt: skip
    request = RankRequest(
        models=options.models, data=data, base=options.base, proxy=proxy, task=options.task, settings=settings
    )
    found = run_ranking(request, fetching(options.connection), on_model=_say)
    if options.as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        for line in ranking_lines(found):
            typer.echo(line)


def ranking_lines(found: Ranking) -> Iterator[str]:
    """Yield a ranking as text."""
    classes = "numbers" if found.num_classes is None else f"{found.num_classes} classes"
    draws = f"{plural(len(found.seeds), 'draw')} of " if len(found.seeds) > 1 else ""
    yield f"{draws}{plural(found.num_examples, 'example')}, {classes}; the best first, by the mean of the places"
    yield ""
    yield from aligned([
        ["model", "place", *found.needs, "features", "parameters", "body s", "scores s"],
        *(_row(model) for model in found.models),
    ])  # fmt: skip
    for model in found.models:
        for reason, names in _reasons(model).items():
            yield f"{model.model}: no {', '.join(names)}: {reason}"
    for note in found.notes:
        yield f"note: {note}"
    if any(pair.tau is not None for pair in found.agreement):
        yield ""
        yield f"agreement of the scores over {plural(len(found.models), 'model')}: Kendall's tau, and weighted"
        yield from aligned([
            ["", "", "tau", "weighted"],
            *([pair.one, pair.other, figure(pair.tau, digits=2), figure(pair.weighted_tau, digits=2)]
              for pair in found.agreement),
        ])  # fmt: skip
    yield ""
    yield from (f"{name} needs {needs}" for name, needs in found.needs.items())


def _row(model: RankedModel) -> list[str]:
    took_s = sum(score.seconds for score in model.scores) + model.head_seconds
    return [
        model.model, figure(model.place, digits=2), *map(_cell, model.scores), f"{model.num_features:,}",
        f"{model.num_parameters / 1e6:.1f}M", f"{model.body_seconds:.1f}", f"{took_s:.1f}",
    ]  # fmt: skip


def _cell(score: Score) -> str:
    spread = "" if score.spread is None else f" ±{score.spread:.3f}"
    return f"{figure(score.mean)}{spread}"


def _reasons(model: RankedModel) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for score in model.scores:
        if score.why_not is not None:
            found.setdefault(score.why_not, []).append(score.name)
    return found


def _read(options: RankOptions, files: list[str], *, task: str, what: str) -> Data:
    columns = options.columns
    request = DataRequest(
        data=files, columns=named_columns(columns), file_format=file_format_of(columns), limit=columns.max_examples
    )
    return show_data(read_labelled(request, task=task), what=what, err=options.as_json)


def _seeds(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UserInputError(f"--seeds {text}: expected numbers, separated by commas")
    return tuple(map(int, words))


def _say(model: str) -> None:
    typer.echo(f"scoring {model}", err=True)
