"""Options of `coldfuse simulate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from coldfuse.cli.options.shared import DATA_PANEL, AsJson, Columns

_LOAD, _REAL = "Under load", "On real data"


@dataclass(frozen=True, kw_only=True)
class Load:
    """How a federation is loaded."""

    store: Annotated[
        str | None,
        typer.Option(
            help="An empty folder or s3://BUCKET/PREFIX, which keeps everything; a temporary folder by default.",
            rich_help_panel=_LOAD,
        ),
    ] = None
    rounds: Annotated[int, typer.Option(min=1, help="Rounds.", rich_help_panel=_LOAD)] = 2
    gateways: Annotated[int, typer.Option(min=1, help="Gateways, each a process.", rich_help_panel=_LOAD)] = 2
    clients: Annotated[
        int, typer.Option(min=1, help="Contributors that are connected at a time.", rich_help_panel=_LOAD)
    ] = 32
    train: Annotated[
        str | None,
        typer.Option(
            help="Time that the median contributor trains (20s); by default all come when the round opens.",
            rich_help_panel=_LOAD,
        ),
    ] = None
    quorum: Annotated[
        int | None,
        typer.Option(
            min=1, help="Admitted contributions that let a round close; those who are honest, on time and do not crash "
            "by default.", rich_help_panel=_LOAD,
        ),
    ] = None  # fmt: skip
    deadline: Annotated[
        str, typer.Option(help="Deadline of a round, which late contributors miss.", rich_help_panel=_LOAD)
    ] = "60s"
    grace: Annotated[
        str | None,
        typer.Option(
            help="Time that a round stays open at least, whoever has come; as long as the deadline, and it closes on "
            "that.", rich_help_panel=_LOAD,
        ),
    ] = None  # fmt: skip
    late: Annotated[
        Literal["drop", "next", "rebase"],
        typer.Option(help="What becomes of a contribution whose round is over.", rich_help_panel=_LOAD),
    ] = "drop"
    screening: Annotated[
        Literal["strict", "off"],
        typer.Option(help="Compare contributions with each other, or not.", rich_help_panel=_LOAD),
    ] = "strict"
    parameters: Annotated[str, typer.Option(help="Size of the made-up model, 100K or 22M.", rich_help_panel=_LOAD)] = (
        "100K"
    )
    shared_delta: Annotated[
        bool,
        typer.Option(
            "--shared-delta", help="Everybody sends the same delta, to measure manifests and verdicts alone; with "
            "--screening off.", rich_help_panel=_LOAD,
        ),
    ] = False  # fmt: skip
    threads: Annotated[
        bool,
        typer.Option(
            "--threads", help="Fuse on threads instead of Ray; only then are the store operations of tasks counted.",
            rich_help_panel=_LOAD,
        ),
    ] = False  # fmt: skip
    workers: Annotated[int, typer.Option(min=1, help="Workers that screen and fuse.", rich_help_panel=_LOAD)] = 2


@dataclass(frozen=True, kw_only=True)
class RealData:
    """What contributors train on."""

    data: Annotated[
        list[str],
        typer.Option(
            help="Files of one task, or the name of a bundled sample (snips, banking77, goemotions_ekman, "
            "clinc150, poem_sentiment, germeval2018, boolq): contributors train on parts of it, every method "
            "meets every attack, and the fused models are scored. Without it, the federation is put under load.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)
    base: Annotated[
        str | None,
        typer.Option(help="A model folder or hub id; the demo's MiniLM by default.", rich_help_panel=_REAL),
    ] = None
    work: Annotated[
        Path | None,
        typer.Option(
            help="Keeps deltas and scores; the same command goes on where it ended. A temporary folder by default.",
            rich_help_panel=_REAL,
        ),
    ] = None
    examples: Annotated[int, typer.Option(min=8, help="Examples of each contributor.", rich_help_panel=_REAL)] = 150
    epochs: Annotated[int, typer.Option(min=1, help="Passes over them.", rich_help_panel=_REAL)] = 2
    torch_threads: Annotated[int, typer.Option(min=1, help="Processor threads.", rich_help_panel=_REAL)] = 1


@dataclass(frozen=True, kw_only=True)
class SimulateOptions:
    """Put a federation under load or under attack: many virtual contributors, of which some crash, come late or lie.

    Real gateways, a real store and a real aggregator take contributions that nobody has trained; the report says what
    was acknowledged and judged, how fast, and what it cost. With --data contributors train for real, and a table says
    how accurate the model is that each method makes of what each attack sends, with screening and without.

    Example: coldfuse simulate --contributors 1000 --faults crash=0.1,malicious=0.1,late=0.2

    With data: coldfuse simulate --contributors 8 --faults malicious=0.25 --attack alie --method median --data snips
    """

    contributors: Annotated[
        int | None, typer.Option(min=1, help="Virtual contributors; 100, or 8 that train.", show_default=False)
    ] = None
    faults: Annotated[
        str, typer.Option(help="Shares that crash, attack and come late. With --data only malicious counts.")
    ] = "crash=0.1,malicious=0.1,late=0.2"
    attack: Annotated[
        list[str],
        typer.Option(
            help="What hostile ones send, may be repeated; sign-flip, or all with --data.", show_default=False
        ),
    ] = field(default_factory=list)
    method: Annotated[
        list[str], typer.Option(help="Fusion method; with --data it may be repeated.", show_default=False)
    ] = field(default_factory=list)
    seed: Annotated[int, typer.Option(help="Decides who does what, and what deltas are.")] = 0
    as_json: AsJson = False
    load: Load = field(default_factory=Load)
    real: RealData = field(default_factory=RealData)
