"""Benchmarks of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

import typer

from coldfuse.cli.options.experiments import (
    BenchFetchOptions,
    BenchFuseOptions,
    BenchRoundOptions,
    BenchUploadOptions,
)
from coldfuse.cli.recipe import recipe_of, require_federated
from coldfuse.errors import UserInputError
from coldfuse.experiments.bench_fetch import FetchFigures, bench_fetch
from coldfuse.experiments.bench_fuse import FuseFigures, FuseOptions, bench_fuse
from coldfuse.experiments.bench_round import RoundFigures, RoundOptions, bench_round
from coldfuse.experiments.bench_upload import NULL, UploadFigures, bench_upload

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
    _check_folder(options.folder)
    _check_store(options.store, NULL)
    rows = bench_upload(
        _sizes(options.sizes), num_runs=options.runs, parallel=options.parallel, folder=options.folder,
        store=options.store,
    )  # fmt: skip
    _show(rows, as_json=options.as_json)


def fetch(options: BenchFetchOptions) -> None:
    """Measure fetching."""
    _check_folder(options.folder)
    _check_store(options.store)
    rows = bench_fetch(_sizes(options.sizes), num_runs=options.runs, folder=options.folder, store=options.store)
    _show(rows, as_json=options.as_json)


def round_(options: BenchRoundOptions) -> None:
    """Measure the end of a round."""
    _check_folder(options.folder)
    _check_store(options.store)
    require_federated(recipe_of(options.method), quorum=options.contributors)
    settings = RoundOptions(
        num_contributors=options.contributors, num_parameters=count_of(options.parameters), method=options.method,
        num_workers=options.workers, on_ray=options.use_ray, num_runs=options.runs, folder=options.folder,
        store=options.store,
    )  # fmt: skip
    _show(bench_round(settings), as_json=options.as_json)


def _show(rows: Iterable[FuseFigures | UploadFigures | FetchFigures | RoundFigures], *, as_json: bool) -> None:
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


def _check_store(store: str | None, *others: str) -> None:
    if store is not None and store not in others and not store.startswith("s3://"):
        expected = " or ".join(["s3://BUCKET/PREFIX", *others])
        raise UserInputError(f"--store {store}: expected {expected}; where a folder lies says --folder")


def _sizes(text: str) -> list[int]:
    numbers = text.split(",")
    if not all(number.strip().isascii() and number.strip().isdigit() and int(number) > 0 for number in numbers):
        raise UserInputError(f"--sizes {text}: expected numbers of MiB, 1 or more, separated by commas")
    return [int(number) for number in numbers]
