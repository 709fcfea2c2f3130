"""Benchmarks of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

import typer

from coldfuse.cli.options.experiments import BenchFuseOptions, BenchUploadOptions
from coldfuse.cli.recipe import recipe_of
from coldfuse.errors import UserInputError
from coldfuse.experiments.bench_fuse import FuseFigures, FuseOptions, bench_fuse
from coldfuse.experiments.bench_upload import UploadFigures, bench_upload

_MAX_PARAMETERS = 10**12
_FACTORS = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


def fuse(options: BenchFuseOptions) -> None:
    """Measure fusing."""
    recipes = _split(options.methods)
    for recipe in recipes:
        recipe_of(recipe)
    _check_folder(options.folder)
    settings = FuseOptions(
        methods=recipes, shape=options.shape,
        num_parameters=count_of(options.parameters) if options.parameters else None,
        num_contributions=options.contributions, dtype=options.dtype, num_workers=options.workers,
        on_ray=options.use_ray, device=options.device, num_runs=options.runs, folder=options.folder,
        models=options.models,
    )  # fmt: skip
    _show(bench_fuse(settings), as_json=options.as_json)


def upload(options: BenchUploadOptions) -> None:
    """Measure uploading."""
    numbers = options.sizes.split(",")
    if not all(number.strip().isascii() and number.strip().isdigit() and int(number) > 0 for number in numbers):
        raise UserInputError(f"--sizes {options.sizes}: expected numbers of MiB, 1 or more, separated by commas")
    _check_folder(options.folder)
    rows = bench_upload(
        [int(number) for number in numbers], num_runs=options.runs, parallel=options.parallel, folder=options.folder
    )
    _show(rows, as_json=options.as_json)


def _show(rows: Iterable[FuseFigures | UploadFigures], *, as_json: bool) -> None:
    """Print the figures, as text as soon as they are there."""
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        for field in fields(row):
            value = getattr(row, field.name)
            typer.echo(f"{field.name:>24}  {format(value, '.2f') if isinstance(value, float) else value}")
        typer.echo("")


def _split(methods: str) -> list[str]:
    """Cut at the commas that stand outside parentheses."""
    recipes = [recipe.strip() for recipe in re.split(r",(?![^()]*\))", methods)]
    if not all(recipes):
        raise UserInputError(f"--methods {methods}: expected methods or recipes, separated by commas")
    return recipes


def count_of(text: str, option: str = "--parameters") -> int:
    """Return a number of parameters as people write it, such as 22M."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip(), re.ASCII)
    count = int(float(match[1]) * _FACTORS.get(match[2], 1)) if match else 0
    if not 1 <= count <= _MAX_PARAMETERS:
        raise UserInputError(f"{option} {text}: expected a number such as 22M or 0.5B, from 1 to 1000B")
    return count


def _check_folder(folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise UserInputError(f"--folder {folder}: there is no such folder")
