"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.core.usual_method import USUAL_METHOD

DATA_PANEL = "The data"
DATA_HELP = (
    "CSV, TSV, JSON, Parquet, Arrow, CoNLL or text: a file, a folder, a pattern in quotes, or - for standard input; "
    "hf://ORG/NAME:SPLIT of the Hub; a database as 'sqlite:///FILE?query=SELECT …'; may be repeated."
)
_ENCODING_HELP = "Of text files, such as cp1252 or latin-1; UTF-8, or what the file's first bytes say, by default."
CONNECTION_PANEL = "Connection"

Source = Annotated[
    str,
    typer.Argument(help="A store (folder or s3://BUCKET/PREFIX) or a gateway (HOST:PORT).", show_default=False),
]
Store = Annotated[str, typer.Argument(help="A folder, or s3://BUCKET/PREFIX.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(help="Decides split, order and dropout.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Memory = Annotated[
    str | None, typer.Option(help="Memory for all workers of a machine, 2GiB; an eighth of it by default.")
]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How a gateway is reached, and by what it is known."""

    root: Annotated[
        str | None,
        typer.Option(
            metavar="FINGERPRINT",
            help="The federation's fingerprint, as its operator says it; remembered from then on.",
            rich_help_panel=CONNECTION_PANEL,
        ),
    ] = None
    tls_ca: Annotated[
        Path | None,
        typer.Option(
            help="Authority that the gateway's certificate must come from, PEM.", rich_help_panel=CONNECTION_PANEL
        ),
    ] = None
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="Your certificate, PEM, where the gateway asks for one.", rich_help_panel=CONNECTION_PANEL),
    ] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.", rich_help_panel=CONNECTION_PANEL)] = None
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Speak plain text to a gateway on another machine.", rich_help_panel=CONNECTION_PANEL
        ),
    ] = False
    patience: Annotated[
        str,
        typer.Option(help="How long to try while the gateway is out of reach.", rich_help_panel=CONNECTION_PANEL),
    ] = "2m"


@dataclass(frozen=True, kw_only=True)
class QuickConnection(Connection):
    """The same for questions, where somebody waits for the answer."""

    patience: Annotated[
        str,
        typer.Option(help="How long to try while the gateway is out of reach.", rich_help_panel=CONNECTION_PANEL),
    ] = "10s"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where examples have their texts and labels, and how their files are written."""

    text_column: Annotated[
        str | None, typer.Option(help="Found by itself if it has a usual name.", rich_help_panel=DATA_PANEL)
    ] = None
    text_pair_column: Annotated[
        str | None, typer.Option(help="Second text of pair tasks.", rich_help_panel=DATA_PANEL)
    ] = None
    label_column: Annotated[
        str | None, typer.Option(help="Found by itself if it has a usual name.", rich_help_panel=DATA_PANEL)
    ] = None
    column: Annotated[
        list[str],
        typer.Option(
            "--column",
            help="The column of anything that a task reads, ROLE=NAME: tokens=words, text=data.body; may be repeated.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = field(default_factory=list)
    max_examples: Annotated[
        int | None, typer.Option(min=1, help="How many are read at most; all by default.", rich_help_panel=DATA_PANEL)
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(
            help="Between the cells of CSV: one character, or tab; found in the header by default.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    text_encoding: Annotated[
        str | None, typer.Option("--text-encoding", "--encoding", help=_ENCODING_HELP, rich_help_panel=DATA_PANEL)
    ] = None


@dataclass(frozen=True, kw_only=True)
class NodeColumns(Columns):
    """The same for a node, whose --encoding is that of its delta."""

    text_encoding: Annotated[
        str | None, typer.Option("--text-encoding", help=_ENCODING_HELP, rich_help_panel=DATA_PANEL)
    ] = None
    documents: Annotated[
        str | None,
        typer.Option(help="What an example of a plain text file is: file or line.", rich_help_panel=DATA_PANEL),
    ] = None


_METHOD = typer.Option(help='Fusion method, or steps joined by then: "clip then ties(density=0.3) then nesterov".')


@dataclass(frozen=True, kw_only=True)
class RecipeChange:
    """What is to be otherwise in a fusion method."""

    method: Annotated[str | None, _METHOD] = None
    param: Annotated[
        list[str], typer.Option("--param", help="A parameter of the method, KEY=VALUE; as often as needed.")
    ] = field(default_factory=list)
    variant: Annotated[
        str | None,
        typer.Option("--variant", "--flavour", help="paper (as its code computes it) or mergekit, where they differ."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RecipeWords(RecipeChange):
    """A fusion method as its user writes it."""

    method: Annotated[str, _METHOD] = "mean"


@dataclass(frozen=True, kw_only=True)
class UsualRecipe(RecipeWords):
    """A fusion method as its user writes it; else that of a new federation."""

    method: Annotated[str, _METHOD] = USUAL_METHOD
