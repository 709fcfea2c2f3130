"""Options of `coldfuse statistics`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.shared import DATA_HELP, DATA_PANEL, Columns


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions:
    """Compute what private data say of a fine-tuned model: for methods that weigh by it.

    Fisher information needs the task's head. A head.safetensors in the model's folder is taken, as a node writes it;
    without one, a linear head is first fitted to the data on the model's features.

    The variance of each weight along its training needs no data, but two or more --snapshot folders.

    Example: coldfuse statistics ./alice --data reviews.csv --kind fisher --out alice-fisher.safetensors
    """

    model: Annotated[Path, typer.Argument(help="The fine-tuned model's folder.", show_default=False)]
    kind: Annotated[
        Literal["fisher", "gram", "variance"],
        typer.Option(help="fisher (for fisher), gram (for regmean) or variance (for precision).", show_default=False),
    ]
    out: Annotated[Path, typer.Option(help="The file to create.", show_default=False)]
    data: Annotated[
        list[str], typer.Option("--data", help=f"Private examples: {DATA_HELP}", rich_help_panel=DATA_PANEL)
    ] = field(default_factory=list)
    task: Annotated[
        str,
        typer.Option(
            help="What the model was tuned for, as contribute --task has it. For others than text-classification, "
            "Fisher information is empirical unless there is one label an example.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = "text-classification"
    columns: Columns = field(default_factory=Columns)
    examples: Annotated[
        int, typer.Option(min=1, help="How many of the data, at random.", rich_help_panel=DATA_PANEL)
    ] = 256
    seed: Annotated[int, typer.Option(help="Decides which examples.", rich_help_panel=DATA_PANEL)] = 0
    max_length: Annotated[
        int, typer.Option(min=5, help="Tokens of a text that are read.", rich_help_panel=DATA_PANEL)
    ] = 128
    snapshot: Annotated[
        list[Path],
        typer.Option(help="For variance, instead of data: the model's folder at one point of its training; repeat it."),
    ] = field(default_factory=list)
    estimator: Annotated[
        Literal["exact", "empirical"],
        typer.Option(
            help="exact: over all classes, at one pass backward for each; empirical: for the true label alone."
        ),
    ] = "exact"
    include_padding: Annotated[bool, typer.Option("--include-padding", help="Count padding in Gram matrices.")] = False
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; torch's choice by default.")] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto"
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False
