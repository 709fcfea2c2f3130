"""Benchmarks of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.cli.recipe import recipe_of
from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.experiments.bench_fuse import FuseFigures
    from coldfuse.experiments.bench_upload import UploadFigures

app = typer.Typer(help="Measure this machine against the bound, side by side.", no_args_is_help=True)

_JSON = typer.Option(False, "--json", help="Print JSON.")
_RUNS = typer.Option(5, min=1, help="Counted runs; one more warms up.")
_FOLDER = typer.Option(None, help="Where to put the files; the system's temporary folder by default.")
_MAX_PARAMETERS = 10**12
_FACTORS = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


@app.command()
def fuse(
    methods: str = typer.Option("mean", help='Methods or recipes, separated by commas: mean,ties,"dare then mean".'),
    shape: str = typer.Option("square", help="Shape of the models: square, minilm or llama-0.5b."),
    parameters: str | None = typer.Option(None, help="Size of the models, 22M or 0.5B; as the shape's original has."),
    contributions: int = typer.Option(8, min=1, help="Models to fuse on the base."),
    dtype: str = typer.Option("F32", help="F32, BF16 or F16."),
    workers: int | None = typer.Option(None, min=1, help="Threads or Ray workers; one a processor by default."),
    use_ray: bool = typer.Option(False, "--ray", help="Fuse on Ray."),
    device: str = typer.Option("cpu", help="Where methods work that can: cpu, cuda, cuda:1."),
    runs: int = _RUNS,
    folder: Path | None = _FOLDER,
    models: Path | None = typer.Option(None, help="Keeps the models for the next time; they are removed by default."),
    as_json: bool = _JSON,
) -> None:
    """Fusing models of random numbers by `coldfuse fuse`, beside reading the same files.

    Example: coldfuse bench fuse --methods mean,ties,median --shape llama-0.5b --dtype BF16 --json
    """
    from coldfuse.experiments.bench_fuse import FuseOptions, bench_fuse
    from coldfuse.experiments.bench_models import SHAPES

    recipes = _split(methods)
    for recipe in recipes:
        recipe_of(recipe, [], None)
    _check_choice("--dtype", dtype, ("F32", "BF16", "F16"))
    _check_choice("--shape", shape, tuple(SHAPES))
    _check_folder(folder)
    options = FuseOptions(
        methods=recipes, shape=shape, num_parameters=_count(parameters) if parameters else None,
        num_contributions=contributions, dtype=dtype, num_workers=workers, on_ray=use_ray, device=device,
        num_runs=runs, folder=folder, models=models,
    )  # fmt: skip
    _show(bench_fuse(options), as_json=as_json)


@app.command()
def upload(
    sizes: str = typer.Option("64,256,1024,2048", help="Sizes of the file, in MiB."),
    parallel: int = typer.Option(4, min=1, help="Parts on their way at once."),
    runs: int = _RUNS,
    folder: Path | None = _FOLDER,
    as_json: bool = _JSON,
) -> None:
    """Uploading a file to a gateway on a folder, beside a bare gRPC stream.

    Example: coldfuse bench upload --sizes 64,1024 --json
    """
    from coldfuse.experiments.bench_upload import bench_upload

    numbers = sizes.split(",")
    if not all(number.strip().isascii() and number.strip().isdigit() and int(number) > 0 for number in numbers):
        raise UserInputError(f"--sizes {sizes}: expected numbers of MiB, 1 or more, separated by commas")
    _check_folder(folder)
    sizes_mib = [int(number) for number in numbers]
    _show(bench_upload(sizes_mib, num_runs=runs, parallel=parallel, folder=folder), as_json=as_json)


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


def _check_choice(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UserInputError(f"{option} {value}: expected {', '.join(known[:-1])} or {known[-1]}")


def _count(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip(), re.ASCII)
    count = int(float(match[1]) * _FACTORS.get(match[2], 1)) if match else 0
    if not 1 <= count <= _MAX_PARAMETERS:
        raise UserInputError(f"--parameters {text}: expected a number such as 22M or 0.5B, from 1 to 1000B")
    return count


def _check_folder(folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise UserInputError(f"--folder {folder}: there is no such folder")
