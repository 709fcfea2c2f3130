"""Experiments on one's own data."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.experiments.fusion_presets import Preset

app = typer.Typer(help="Compare methods by training, fusing and scoring.", no_args_is_help=True)

_CHANGED = "Instead of what the setting says"


@app.callback()
def group() -> None:
    """Keep the name of the experiment a word of the command."""


@app.command()
def fusion(
    setting: str = typer.Argument(
        help="tasks (own tasks, own heads), partitions (one task, fused heads) or robust (some are hostile).",
        show_default=False,
    ),
    data: Path = typer.Option(..., help="A folder for each task, with train, test and perhaps validation files."),
    work: Path = typer.Option(..., help="Keeps models and scores; the same command goes on where it ended."),
    base: str | None = typer.Option(None, help="A model folder or hub id; the demo's MiniLM by default."),
    seeds: str = typer.Option("0,1,2", help="Numbers, separated by commas."),
    threads: int = typer.Option(1, min=1, help="Processor threads."),
    as_json: bool = typer.Option(False, "--json", help="Print all scores as JSON."),
    tasks: str | None = typer.Option(None, help="Folders of the data, separated by commas.", rich_help_panel=_CHANGED),
    method: list[str] = typer.Option([], help="A recipe to compare; may be repeated.", rich_help_panel=_CHANGED),
    examples: int | None = typer.Option(
        None, min=8, help="How many each contributor trains on.", rich_help_panel=_CHANGED
    ),
    parties: int | None = typer.Option(None, min=1, help="How many share the task.", rich_help_panel=_CHANGED),
    main_share: float | None = typer.Option(
        None, min=0, max=1, help="Share of a party's examples that have its main label.", rich_help_panel=_CHANGED
    ),
    epochs: int | None = typer.Option(None, min=1, help="Passes over the examples.", rich_help_panel=_CHANGED),
    learning_rate: float | None = typer.Option(None, help="AdamW's, at its highest.", rich_help_panel=_CHANGED),
) -> None:
    """Compare fusion methods: fine-tune on real tasks, fuse by each method, and score the fused models.

    Scales are chosen on validation data, scores are of test data.

    Example: coldfuse experiment fusion tasks --data ./data --work ./kept --seeds 0,1
    """
    from coldfuse.cli.source import resolve_model
    from coldfuse.config import prepare_training

    prepare_training()
    from coldfuse.experiments import fusion_experiment
    from coldfuse.experiments.demo import bundled_base

    preset = _preset(setting, tasks, method)
    preset = _resized(preset, examples, parties, main_share)
    preset = _retrained(preset, epochs, learning_rate)
    rows = fusion_experiment.run_experiment(
        preset,
        fusion_experiment.Folders(data=data, base=resolve_model(base) if base else bundled_base(), work=work),
        seeds=_numbers(seeds),
        threads=threads,
        callback=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        typer.echo(json.dumps(fusion_experiment.as_json(rows), indent=2))
    else:
        typer.echo("\n".join(fusion_experiment.as_table(rows)))


def _preset(name: str, tasks: str | None, recipes: list[str]) -> Preset:
    from coldfuse.engine.recipes import read_recipe
    from coldfuse.experiments.fusion_presets import PRESETS

    if name not in PRESETS:
        raise typer.BadParameter(f"{name}: expected one of {', '.join(PRESETS)}")
    preset = PRESETS[name]
    for line in recipes:
        read_recipe(line)
    if recipes:
        preset = replace(preset, methods={line: [line] for line in recipes})
    if tasks is not None:
        preset = replace(preset, tasks=tuple(tasks.split(",")))
    if preset.parties is not None and len(preset.tasks) != 1:
        raise UserInputError(f"--tasks {tasks}: {name} deals out one task, got {len(preset.tasks)}")
    return preset


def _resized(preset: Preset, examples: int | None, parties: int | None, main_share: float | None) -> Preset:
    dealt = preset.parties
    if dealt is None:
        if parties is not None or main_share is not None:
            raise UserInputError("--parties and --main-share are for one task that is dealt out")
        return replace(preset, sizes=replace(preset.sizes, train=examples or preset.sizes.train))
    dealt = replace(
        dealt,
        num_parties=parties or dealt.num_parties,
        num_each=examples or dealt.num_each,
        main_share=dealt.main_share if main_share is None else main_share,
    )
    return replace(preset, parties=dealt)


def _retrained(preset: Preset, epochs: int | None, learning_rate: float | None) -> Preset:
    usual = preset.training
    training = replace(usual, num_epochs=epochs or usual.num_epochs, learning_rate=learning_rate or usual.learning_rate)
    return replace(preset, training=training)


def _numbers(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UserInputError(f"--seeds {text}: expected numbers, separated by commas")
    return [int(word) for word in words]
