"""Options of `coldfuse rank` and `coldfuse similarity`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.shared import DATA_HELP, DATA_PANEL, AsJson, Columns, Device, QuickConnection

_MODELS_HELP = (
    "Models: a folder, a hub id, a federation's release (STORE@3, HOST:PORT@latest), or with --base a delta file or an "
    "adapter's folder."
)
Base = Annotated[str | None, typer.Option(help="The base of deltas and adapters.")]
Examples = Annotated[int, typer.Option(min=4, help="How many of the data, at random.", rich_help_panel=DATA_PANEL)]
MaxLength = Annotated[int, typer.Option(min=5, help="Tokens of a text that are read.", rich_help_panel=DATA_PANEL)]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; torch's choice by default.")]


@dataclass(frozen=True, kw_only=True)
class RankOptions:
    """Say which base to start from: score models on labelled data without training them.

    Scores of the features: logme, h-score, transrate, knn, and probe (a linear classifier on half of the data).
    With --proxy, the same classifier on a general task; leep and nce where a model has a classification head of its
    own. The table says how much the scores agree, and what each costs.

    Example: coldfuse rank ./minilm ./federation@latest --data reviews.csv
    """

    models: Annotated[list[str], typer.Argument(metavar="MODELS", help=_MODELS_HELP, show_default=False)]
    data: Annotated[
        list[str],
        typer.Option("--data", help=f"Labelled examples: {DATA_HELP}", rich_help_panel=DATA_PANEL, show_default=False),
    ]
    task: Annotated[
        Literal["text-classification", "regression"],
        typer.Option(help="What the labels are: classes, or numbers to predict.", rich_help_panel=DATA_PANEL),
    ] = "text-classification"
    proxy: Annotated[
        list[str],
        typer.Option("--proxy", help="Labelled examples of a general task, for proxy.", rich_help_panel=DATA_PANEL),
    ] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)
    examples: Examples = 1000
    seeds: Annotated[
        str, typer.Option(help="One draw of examples for each, such as 0,1,2.", rich_help_panel=DATA_PANEL)
    ] = "0"
    max_length: MaxLength = 128
    score: Annotated[
        list[str], typer.Option("--score", help="A score that is wanted; all by default. May be repeated.")
    ] = field(default_factory=list)
    neighbours: Annotated[int, typer.Option(min=1, help="Of knn: neighbours that have a vote.")] = 5
    base: Base = None
    threads: Threads = None
    device: Device = "auto"
    as_json: AsJson = False
    connection: QuickConnection = field(default_factory=QuickConnection)


@dataclass(frozen=True, kw_only=True)
class SimilarityOptions:
    """Say how alike models, releases and contributions are: by their weights, and by what they make of texts.

    By weights, per layer and in all: cosine and sign agreement of the task vectors, which are what each model changes
    of the base; without a base, of the weights themselves. By data, which every model reads: CKA without bias, SVCCA,
    PWCCA and the Procrustes distance of every layer's hidden states; this is for models of different shapes, too.

    Example: coldfuse similarity alice.safetensors bob.safetensors --base ./base --data texts.csv --plot alike.png
    """

    models: Annotated[list[str], typer.Argument(metavar="MODELS", help=_MODELS_HELP, show_default=False)]
    base: Annotated[
        str | None, typer.Option(help="The base that task vectors are changes of, and deltas and adapters are on.")
    ] = None
    data: Annotated[
        list[str], typer.Option("--data", help=f"Texts, without labels: {DATA_HELP}", rich_help_panel=DATA_PANEL)
    ] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)
    examples: Examples = 512
    seed: Annotated[int, typer.Option(help="Decides which examples.", rich_help_panel=DATA_PANEL)] = 0
    max_length: MaxLength = 128
    tensors: Annotated[bool, typer.Option("--tensors", help="Show weights tensor by tensor, too.")] = False
    plot: Annotated[
        Path | None, typer.Option(help="File to draw heat maps by layer into: .png, .svg or .pdf.", show_default=False)
    ] = None
    workers: Annotated[int | None, typer.Option(min=1, help="Threads for the weights; one a processor by default.")] = (
        None
    )
    memory: Annotated[
        str | None, typer.Option(help="Memory for the weights, 2GiB; an eighth of the machine by default.")
    ] = None
    threads: Threads = None
    device: Device = "auto"
    as_json: AsJson = False
    connection: QuickConnection = field(default_factory=QuickConnection)
