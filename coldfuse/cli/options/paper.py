"""Options of the paper's experiments: one class a command, made of what the experiments say of themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from coldfuse.cli.options.shared import AsJson
from coldfuse.experiments.paper.declared import EXPERIMENTS
from coldfuse.experiments.paper.values import Experiment

_SIZES = "How large, instead of what the experiment says"

Data = Annotated[Path, typer.Option(help="A folder for each data set, with train, test and perhaps validation files.")]
Sets = Annotated[str | None, typer.Option(help="Folders of the data, separated by commas.")]
Threads = Annotated[int, typer.Option(min=1, help="Processor threads; other numbers may change last digits.")]


@dataclass(frozen=True, kw_only=True)
class Larger:
    """How large an experiment is."""

    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds.", rich_help_panel=_SIZES)] = None
    contributors: Annotated[
        int | None, typer.Option(min=1, help="Contributors that a round samples.", rich_help_panel=_SIZES)
    ] = None
    examples: Annotated[
        int | None, typer.Option(min=8, help="Examples of a contributor in a round.", rich_help_panel=_SIZES)
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over them.", rich_help_panel=_SIZES)] = None
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Examples of a training step.", rich_help_panel=_SIZES)
    ] = None
    learning_rate: Annotated[float | None, typer.Option(help="AdamW's, at its highest.", rich_help_panel=_SIZES)] = None
    max_length: Annotated[
        int | None, typer.Option(min=5, help="Tokens of a text that are read.", rich_help_panel=_SIZES)
    ] = None
    test: Annotated[
        int | None, typer.Option(min=1, help="Examples that scores are counted on.", rich_help_panel=_SIZES)
    ] = None
    scoring: Annotated[
        int | None,
        typer.Option(min=8, help="Examples of a probe, and of a fine-tuned score.", rich_help_panel=_SIZES),
    ] = None
    few: Annotated[int | None, typer.Option(min=4, help="Labels of a few-shot score.", rich_help_panel=_SIZES)] = None
    draws: Annotated[
        int | None, typer.Option(min=1, help="Draws of them, whose mean it is.", rich_help_panel=_SIZES)
    ] = None
    score_every: Annotated[
        int | None, typer.Option(min=1, help="Rounds from one frozen score to the next.", rich_help_panel=_SIZES)
    ] = None
    tune_every: Annotated[
        int | None,
        typer.Option(min=1, help="Rounds from one fine-tuned or few-shot score to the next.", rich_help_panel=_SIZES),
    ] = None


@dataclass(frozen=True, kw_only=True)
class PaperOptions:
    """Run one of the paper's experiments."""

    experiment: ClassVar[str]
    """Name of the experiment."""

    data: Data
    work: Annotated[Path, typer.Option(help="Keeps models and scores; the same command goes on where it ended.")]
    base: Annotated[str | None, typer.Option(help="A model folder or hub id; the demo's MiniLM by default.")] = None
    sets: Sets = None
    unseen: Annotated[
        str | None, typer.Option(help="Data sets that nobody contributes, instead of the experiment's folds.")
    ] = None
    curves: Annotated[
        str | None, typer.Option(help="Curves and baselines by name, separated by semicolons, instead of all.")
    ] = None
    seeds: Annotated[str | None, typer.Option(help="Numbers, separated by commas.")] = None
    threads: Threads = 1
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.jsonl, summary.md and figure.png; in --work by default.")
    ] = None
    so_far: Annotated[bool, typer.Option("--so-far", help="Make nothing: show the scores that are there already.")] = (
        False
    )
    discard: Annotated[
        bool, typer.Option("--discard", help="Remove models once this experiment needs them no more: less disk.")
    ] = False
    as_json: AsJson = False
    larger: Larger = field(default_factory=Larger)


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Pretrain a small encoder of the texts of data sets, without labels: a base for the experiments that has no tasks.

    Killed at any time, the same command goes on.

    Example: coldfuse experiment pretrain --data ./data --out ./pretrained --leave-out mrpc,subj
    """

    data: Data
    out: Annotated[Path, typer.Option(help="Folder for the model and what is known of it.")]
    sets: Sets = None
    leave_out: Annotated[
        str | None, typer.Option(help="Data sets whose texts it must not have seen, separated by commas.")
    ] = None
    layers: Annotated[int, typer.Option(min=1, help="Layers of the encoder.")] = 4
    hidden_size: Annotated[int, typer.Option(min=64, help="Its width, a multiple of 64.")] = 256
    vocabulary: Annotated[int, typer.Option(min=300, help="Tokens of its vocabulary, at most.")] = 8192
    block: Annotated[int, typer.Option(min=16, max=512, help="Tokens of a block.")] = 64
    batch: Annotated[int, typer.Option(min=1, help="Blocks of a training step.")] = 32
    epochs: Annotated[int, typer.Option(min=1, help="Passes over all texts.")] = 12
    learning_rate: Annotated[float, typer.Option(help="AdamW's, at its highest.")] = 2e-3
    seed: Annotated[int, typer.Option(help="Decides the first numbers, order and what is hidden.")] = 0
    threads: Threads = 1


def options_of(experiment: Experiment) -> type[PaperOptions]:
    """Return the class of an experiment's options, whose docstring is the command's help."""
    text = (
        f"{experiment.asks}\n\n    Source: {experiment.source}.\n\n"
        f"    Example: coldfuse experiment {experiment.name} --data ./data --work ./kept\n    "
    )
    name = "".join(word.capitalize() for word in experiment.name.split("-"))
    return type(f"{name}Options", (PaperOptions,), {"__doc__": text, "experiment": experiment.name})


PAPER_OPTIONS = {name: options_of(experiment) for name, experiment in EXPERIMENTS.items()}
"""Options of each experiment's command."""
