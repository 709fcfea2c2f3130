"""Benchmarks of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.cli.recipe import METHOD, recipe_of
from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

app = typer.Typer(help="Measure this machine against the bound, side by side.", no_args_is_help=True)

_JSON = typer.Option(False, "--json", help="Print JSON.")
_RUNS = typer.Option(5, min=1, help="Counted runs; one more warms up.")
_FOLDER = typer.Option(None, help="Where to put the files; the system's temporary folder by default.")
_MAX_PARAMETERS = 10**12
_FACTORS = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


@app.command()
def fuse(
    parameters: str = typer.Option("22M", help="Size of the models: 22M, 0.5B."),
    contributions: int = typer.Option(8, min=1, help="Models to fuse on the base."),
    dtype: str = typer.Option("F32", help="F32, BF16 or F16."),
    method: str = METHOD,
    workers: int | None = typer.Option(None, min=1, help="Threads or Ray workers; one a processor by default."),
    use_ray: bool = typer.Option(False, "--ray", help="Fuse on Ray."),
    runs: int = _RUNS,
    folder: Path | None = _FOLDER,
    as_json: bool = _JSON,
) -> None:
    """Fusing models, against reading them.

    Example: coldfuse bench fuse --parameters 0.5B --dtype BF16 --json
    """
    from coldfuse.experiments.bench_fuse import bench_fuse

    recipe_of(method, [], None)
    if dtype not in ("F32", "BF16", "F16"):
        raise UserInputError(f"--dtype {dtype}: expected F32, BF16 or F16")
    _check_folder(folder)
    figures = bench_fuse(
        num_parameters=_count(parameters), num_contributions=contributions, dtype=dtype, method=method,
        num_workers=workers, on_ray=use_ray, num_runs=runs, folder=folder,
    )  # fmt: skip
    _show([figures], as_json=as_json)


@app.command()
def upload(
    sizes: str = typer.Option("64,256,1024,2048", help="Sizes of the file, in MiB."),
    parallel: int = typer.Option(4, min=1, help="Parts on their way at once."),
    runs: int = _RUNS,
    folder: Path | None = _FOLDER,
    as_json: bool = _JSON,
) -> None:
    """Uploading a file to a gateway on a folder, against a bare gRPC stream.

    Example: coldfuse bench upload --sizes 64,1024 --json
    """
    from coldfuse.experiments.bench_upload import bench_upload

    numbers = sizes.split(",")
    if not all(number.strip().isascii() and number.strip().isdigit() and int(number) > 0 for number in numbers):
        raise UserInputError(f"--sizes {sizes}: expected numbers of MiB, 1 or more, separated by commas")
    sizes_mib = [int(number) for number in numbers]
    _check_folder(folder)
    _show(bench_upload(sizes_mib, num_runs=runs, parallel=parallel, folder=folder), as_json=as_json)


def _show(rows: Sequence[DataclassInstance], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        for field in fields(row):
            value = getattr(row, field.name)
            typer.echo(f"{field.name:>24}  {value:,.2f}" if isinstance(value, float) else f"{field.name:>24}  {value}")
        typer.echo("")


def _count(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMB]?)", text.strip(), re.ASCII)
    count = int(float(match[1]) * _FACTORS.get(match[2], 1)) if match else 0
    if not 1 <= count <= _MAX_PARAMETERS:
        raise UserInputError(f"--parameters {text}: expected a number such as 22M or 0.5B, from 1 to 1000B")
    return count


def _check_folder(folder: Path | None) -> None:
    if folder is not None and not folder.is_dir():
        raise UserInputError(f"--folder {folder}: there is no such folder")
