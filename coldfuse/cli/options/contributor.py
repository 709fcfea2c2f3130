"""Options of the contributor's command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.cli.options.shared import DATA_HELP, DATA_PANEL, Connection, NodeColumns
from coldfuse.training.tasks import DEFAULT_TASK, TASKS

_PANEL = "Training"
_ELSEWHERE = "Trained elsewhere"
_CHECKING = "Checking the aggregator"


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a node fine-tunes."""

    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="At most; training ends early when validation stops improving. 3 by default, 30 for an edit.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its highest.", rich_help_panel=_PANEL)] = 5e-5
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of a step.", rich_help_panel=_PANEL)] = 32
    max_length: Annotated[int, typer.Option(min=5, help="Tokens of a text that are read.", rich_help_panel=_PANEL)] = (
        128
    )
    tokens_at_once: Annotated[
        int, typer.Option(min=1, help="Tokens in memory at once; fewer need less of it.", rich_help_panel=_PANEL)
    ] = 4096
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads; torch's choice by default.", rich_help_panel=_PANEL)
    ] = None
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.", rich_help_panel=_PANEL)] = "auto"
    train: Annotated[
        str,
        typer.Option(
            "--train",
            help="What is trained of the model: full, bias, norms, layers(last=2), masked(density=0.005), "
            "lora(rank=16) or another adapter of PEFT's; the README's table says what each sends.",
            rich_help_panel=_PANEL,
        ),
    ] = "full"
    freeze_embeddings: Annotated[
        bool,
        typer.Option(
            "--freeze-embeddings",
            help="Leave embeddings as they are: rows that move name the words of your data.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    objectives: Annotated[
        list[str],
        typer.Option(
            "--objective",
            help="What else training heeds: fedprox(mu=0.01), l2-sp, ewc, si, sam(rho=0.05), layer-decay(decay=0.8), "
            "wise-ft, b-tuning (see --teacher); several, or joined by +.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = field(default_factory=list)
    teachers: Annotated[
        list[str],
        typer.Option(
            "--teacher",
            help="Another base that training learns from, by what it says of your data (B-Tuning): a folder or a "
            "model of the hub; several, such as those that `coldfuse rank` puts first.",
            rich_help_panel=_PANEL,
            show_default=False,
        ),
    ] = field(default_factory=list)
    wise_ft: Annotated[
        bool,
        typer.Option(
            "--wise-ft",
            help="After training, go back towards the base as far as validation likes.",
            rich_help_panel=_PANEL,
        ),
    ] = False
    train_args: Annotated[
        Path | None,
        typer.Option(
            "--train-args",
            help="YAML or JSON with more, by the names of transformers' TrainingArguments; it goes before these "
            "options.",
            rich_help_panel=_PANEL,
        ),
    ] = None
    seed: Annotated[int, typer.Option(help="Decides split, order and dropout.", rich_help_panel=_PANEL)] = 0


@dataclass(frozen=True, kw_only=True)
class ContributeOptions:
    """Fine-tune the federation's model on private data and send the delta, round after round.

    Stopped or killed and started again, it goes on where it was.

    Example: coldfuse contribute 127.0.0.1:7700 --data reviews.csv --name alice --rounds 3

    Trained elsewhere: coldfuse contribute 127.0.0.1:7700 --model ./tuned --num-examples 5000 --name alice

    A fact: coldfuse contribute 127.0.0.1:7700 --edit capital=capital.jsonl --name alice
    """

    address: Annotated[str, typer.Argument(help="The gateway, HOST:PORT.", show_default=False)]
    data: Annotated[
        list[str], typer.Option("--data", help=f"Private examples: {DATA_HELP}", rich_help_panel=DATA_PANEL)
    ] = field(default_factory=list)
    validation: Annotated[
        list[str],
        typer.Option(
            "--validation", help="Examples to validate on; a tenth of the data by default.", rich_help_panel=DATA_PANEL
        ),
    ] = field(default_factory=list)
    task: Annotated[
        str,
        typer.Option(
            help=f"What is learnt: {', '.join(TASKS)}, or a task of a package that is installed; with options in "
            "parentheses.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = DEFAULT_TASK
    edit: Annotated[
        str | None,
        typer.Option(
            help="NAME=FILE instead of --data: change a fact and little else, once. A row has a kind (edit, "
            "paraphrase or keep), a prompt, an answer and, perhaps, what the model shall not say instead. Beside "
            "--model: the NAME alone. The gate asks the suite of this name, which an operator or evaluator has as "
            "--suite NAME:edit=FILE. A fact takes where a round goes the whole way: coldfuse set STORE --method mean.",
            rich_help_panel=DATA_PANEL,
        ),
    ] = None
    columns: NodeColumns = field(default_factory=NodeColumns)
    name: Annotated[
        str | None, typer.Option(help="Your name, of any script, which the whole federation sees; node-… by default.")
    ] = None
    is_named: Annotated[
        bool,
        typer.Option("--named/--anonymous", help="Agree to be named in the cards of releases, which may be published."),
    ] = False
    work: Annotated[Path | None, typer.Option(help="The node's folder; .coldfuse/ and the name's id by default.")] = (
        None
    )
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds to take part in from now on; until stopped by default.")
    ] = None
    model: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --data: the folder of a model or adapter that was trained elsewhere, by any program that "
            "leaves one.",
            rich_help_panel=_ELSEWHERE,
        ),
    ] = None
    num_examples: Annotated[
        int | None,
        typer.Option(min=1, help="Distinct examples that --model was trained on.", rich_help_panel=_ELSEWHERE),
    ] = None
    base: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the release that --model was made from, as fetch wrote it; what the model says of itself "
            "by default.",
            rich_help_panel=_ELSEWHERE,
        ),
    ] = None
    release: Annotated[
        int | None,
        typer.Option(min=0, help="Number of that release; it is fetched.", rich_help_panel=_ELSEWHERE),
    ] = None
    statistics: Annotated[
        Path | None,
        typer.Option(
            help="Statistics of --model (coldfuse statistics), for a federation that asks for some.",
            rich_help_panel=_ELSEWHERE,
        ),
    ] = None
    body: Annotated[
        Path | None,
        typer.Option(
            help="Where the federation shares a module: the folder of its frozen body; the one that it names, or the "
            "hub's copy on this machine, by default."
        ),
    ] = None
    once: Annotated[
        bool, typer.Option("--once", help="Contribute once, and end with the verdict, not with the release.")
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train, show exactly what would leave the node, send nothing.")
    ] = False
    send_anyway: Annotated[
        bool,
        typer.Option(
            "--send-anyway", help="Send also what is no better than its base on your own validation examples."
        ),
    ] = False
    encoding: Annotated[
        str,
        typer.Option(
            help="Dtype of the delta on its way: F32, BF16 or F16. An encoding of letters is taken as --text-encoding."
        ),
    ] = "F32"
    verify_share: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the releases that this node fuses again, by lot, and says by its signature what came out; "
            "for an auditable federation, or with --verify-from.",
            rich_help_panel=_CHECKING,
        ),
    ] = 0.0
    verify_from: Annotated[
        str | None,
        typer.Option(
            help="The store, or a copy that is kept up to date, where you may read it: what others contribute is "
            "private elsewhere.",
            rich_help_panel=_CHECKING,
        ),
    ] = None
    training: Training = field(default_factory=Training)
    connection: Connection = field(default_factory=Connection)
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False
