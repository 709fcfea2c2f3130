"""Experiments on one's own data."""

from __future__ import annotations

import json
from dataclasses import replace

import typer

from coldfuse.api.places import resolve_model
from coldfuse.cli.options.experiments import FusionOptions
from coldfuse.engine.recipes import read_recipe
from coldfuse.errors import UserInputError
from coldfuse.experiments import fusion_experiment
from coldfuse.experiments.demo import bundled_base
from coldfuse.experiments.fusion_presets import PRESETS, Preset


def fusion(options: FusionOptions) -> None:
    """Compare fusion methods."""
    changes = options.changes
    preset = _preset(options.setting, changes.tasks, changes.method)
    preset = _resized(preset, changes.examples, changes.parties, changes.main_share)
    preset = _retrained(preset, changes.epochs, changes.learning_rate)
    rows = fusion_experiment.run_experiment(
        preset,
        fusion_experiment.Folders(
            data=options.data,
            base=resolve_model(options.base) if options.base else bundled_base(),
            work=options.work,
        ),
        seeds=numbers(options.seeds),
        threads=options.threads,
        callback=lambda line: typer.echo(line, err=True),
    )
    if options.as_json:
        typer.echo(json.dumps(fusion_experiment.as_json(rows), indent=2))
    else:
        typer.echo("\n".join(fusion_experiment.as_table(rows)))


def _preset(name: str, tasks: str | None, recipes: list[str]) -> Preset:
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


def numbers(text: str) -> list[int]:
    """Return numbers between commas, for `--seeds`. Raises `UserInputError` for what is none."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UserInputError(f"--seeds {text}: expected numbers, separated by commas")
    return [int(word) for word in words]
