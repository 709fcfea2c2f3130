"""Options of `coldfuse evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.cli.options.shared import DATA_PANEL, AsJson, NodeColumns, QuickConnection
from coldfuse.training.tasks import DEFAULT_TASK, TASKS

_PROTOCOL = "How models are scored"
_WHERE = "Where it runs"


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """How models are scored."""

    protocol: Annotated[
        list[str],
        typer.Option(
            "--protocol",
            help="probe: a new head on the frozen body; fine-tuned: as a node trains; perplexity: a language model as "
            "it is. May be repeated; the task's usual by default.",
            rich_help_panel=_PROTOCOL,
            show_default=False,
        ),
    ] = field(default_factory=list)
    shots: Annotated[
        str | None,
        typer.Option(
            help="Train on so many labelled examples, another draw for each seed: 16, or 16,64,256. All by default.",
            rich_help_panel=_PROTOCOL,
        ),
    ] = None
    seeds: Annotated[
        str, typer.Option(help="Of draws and training. What draws nothing runs once.", rich_help_panel=_PROTOCOL)
    ] = "0,1,2"
    max_length: Annotated[
        int,
        typer.Option(
            min=5, help="Tokens of a text that are read; a language model's window.", rich_help_panel=_PROTOCOL
        ),
    ] = 128
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Of fine-tuning; 3 by default, and 20 over few labels.", rich_help_panel=_PROTOCOL),
    ] = None
    learning_rate: Annotated[float, typer.Option(help="Of fine-tuning, at its highest.", rich_help_panel=_PROTOCOL)] = (
        5e-5
    )
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of a step.", rich_help_panel=_PROTOCOL)] = 32


@dataclass(frozen=True, kw_only=True)
class ScoredData:
    """What models are scored on."""

    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            help="Labelled examples, or documents for perplexity: whatever `coldfuse contribute` reads; once for each "
            "data set. A share is set apart as test, unless a folder has train and test files.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = field(default_factory=list)
    train: Annotated[
        list[str],
        typer.Option(
            "--train", help="Out of distribution: train on this, test on --test, and on a rest of its own.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = field(default_factory=list)  # fmt: skip
    test: Annotated[
        list[str],
        typer.Option("--test", help="The same labels from elsewhere; one a --train.", rich_help_panel=DATA_PANEL),
    ] = field(default_factory=list)
    task: Annotated[
        str,
        typer.Option(
            help=f"What the data are of: {', '.join(TASKS)}, or a task of a package that is installed; with options in "
            "parentheses.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = DEFAULT_TASK
    suite: Annotated[
        list[str],
        typer.Option(
            "--suite",
            help="lm-eval:TASK, a task of lm-evaluation-harness by its name or YAML file, for models that write; needs "
            "the extra lm-eval. edit:FILE, an edit: efficacy, paraphrases and locality. May be repeated.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = field(default_factory=list)
    time_column: Annotated[
        str | None,
        typer.Option(
            help="Cut --data by this column's time: train on the earliest slice, test on each later one.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    slices: Annotated[int, typer.Option(min=2, help="Slices of time.", rich_help_panel=DATA_PANEL)] = 4
    train_examples: Annotated[
        int | None, typer.Option(min=2, help="Train on so many at most, at random.", rich_help_panel=DATA_PANEL)
    ] = None
    test_examples: Annotated[
        int | None, typer.Option(min=1, help="Test on so many at most, at random.", rich_help_panel=DATA_PANEL)
    ] = None
    columns: NodeColumns = field(default_factory=NodeColumns)


@dataclass(frozen=True, kw_only=True)
class ScoringPlace:
    """Where trials run, and what is kept."""

    threads: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processor threads of a trial; the same number gives the same bytes, on any number of workers.",
            rich_help_panel=_WHERE,
        ),
    ] = 1
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.", rich_help_panel=_WHERE)] = "auto"
    use_ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Models × data × seeds in parallel on Ray; the result is the same.",
            rich_help_panel=_WHERE,
        ),
    ] = False
    workers: Annotated[
        int | None, typer.Option(min=1, help="Ray workers; one a processor by default.", rich_help_panel=_WHERE)
    ] = None
    work: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which what was scored is kept: killed, the same command goes on. One of this user's own by "
            "default.",
            rich_help_panel=_WHERE,
        ),
    ] = None
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of features of frozen bodies; in --work by default.", rich_help_panel=_WHERE),
    ] = None
    cache_size: Annotated[str, typer.Option(help="Size of that folder, at most.", rich_help_panel=_WHERE)] = "2GiB"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Score models on your data, and compare the others with the first on the same examples.

    A model is a folder, a hub id, a federation's release (STORE@7, HOST:PORT@stable), or a delta or adapter on --base.

    Example: coldfuse evaluate ./base ./federation@latest --data reviews.csv --plot scores.png
    """

    models: Annotated[list[str], typer.Argument(help="One or several models.", show_default=False)]
    base: Annotated[str | None, typer.Option(help="The model that deltas and adapters were made on.")] = None
    out: Annotated[Path | None, typer.Option(help="File to write the JSON to, too.")] = None
    plot: Annotated[Path | None, typer.Option(help="File to draw the scores to: .png, .svg or .pdf.")] = None
    as_json: AsJson = False
    data: ScoredData = field(default_factory=ScoredData)
    protocol: ProtocolOptions = field(default_factory=ProtocolOptions)
    place: ScoringPlace = field(default_factory=ScoringPlace)
    connection: QuickConnection = field(default_factory=QuickConnection)
