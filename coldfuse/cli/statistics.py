"""What fusion methods may need beside a fine-tuned model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.codec.statistics import StatisticsInfo

_DATA_PANEL = "The data"


def statistics(
    model: Path = typer.Argument(help="The fine-tuned model's folder.", show_default=False),
    data: Path = typer.Option(
        ..., help="Private examples: CSV, TSV, JSON lines or Parquet.", rich_help_panel=_DATA_PANEL
    ),
    text_column: str | None = typer.Option(
        None, help="Found by itself if it has a usual name.", rich_help_panel=_DATA_PANEL
    ),
    text_pair_column: str | None = typer.Option(None, help="Second text of pair tasks.", rich_help_panel=_DATA_PANEL),
    label_column: str | None = typer.Option(
        None, help="Found by itself if it has a usual name.", rich_help_panel=_DATA_PANEL
    ),
    kind: str = typer.Option(..., help="fisher (for fisher) or gram (for regmean).", show_default=False),
    out: Path = typer.Option(..., help="The file to create.", show_default=False),
    estimator: str = typer.Option(
        "exact", help="exact: over all classes, at one pass backward for each; empirical: for the true label alone."
    ),
    examples: int = typer.Option(256, min=1, help="How many of the data, at random.", rich_help_panel=_DATA_PANEL),
    include_padding: bool = typer.Option(False, "--include-padding", help="Count padding in Gram matrices."),
    max_length: int = typer.Option(128, min=5, help="Tokens of a text that are read.", rich_help_panel=_DATA_PANEL),
    threads: int | None = typer.Option(None, min=1, help="Processor threads; torch's choice by default."),
    device: str = typer.Option("auto", help="cpu, cuda or auto."),
    seed: int = typer.Option(0, help="Decides which examples.", rich_help_panel=_DATA_PANEL),
    as_json: bool = typer.Option(False, "--json", help="Print what was written as JSON."),
) -> None:
    """Compute what private data say of a fine-tuned model: for methods that weigh by it.

    Fisher information needs the task's head. A head.safetensors in the model's folder is taken, as a node writes it;
    without one, a linear head is first fitted to the data on the model's features.

    Example: coldfuse statistics ./alice --data reviews.csv --kind fisher --out alice-fisher.safetensors
    """
    from coldfuse.config import prepare_training
    from coldfuse.contributor.data import read_dataset

    wanted, how = _kind(kind), _estimator(estimator)
    if out.exists():
        raise UserInputError(f"{out}: exists already; give a file that does not")
    if not out.parent.is_dir():
        raise UserInputError(f"{out}: there is no folder {out.parent}; create it")
    prepare_training()
    from coldfuse.contributor.statistics_job import StatisticsJob, compute_statistics, head_labels, write_statistics

    columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    names = head_labels(model) if wanted == "fisher" else None
    job = StatisticsJob(
        model_dir=model, data=read_dataset(data, **columns, label_names=names), kind=wanted, estimator=how,
        num_examples=examples, include_padding=include_padding, max_length=max_length, threads=threads, device=device,
        seed=seed,
    )  # fmt: skip
    began_s = time.monotonic()
    info, tensors = compute_statistics(job)
    try:
        write_statistics(out, tensors, info)
    except OSError as error:
        raise UserInputError(f"{out}: cannot be written: {error.strerror or error}") from error
    _report(info, out, num_tensors=len(tensors), took_s=time.monotonic() - began_s, as_json=as_json)


def _kind(text: str) -> Literal["fisher", "gram"]:
    match text:
        case "fisher" | "gram":
            return text
    raise typer.BadParameter(f"--kind {text}: expected fisher or gram")


def _estimator(text: str) -> Literal["exact", "empirical"]:
    match text:
        case "exact" | "empirical":
            return text
    raise typer.BadParameter(f"--estimator {text}: expected exact or empirical")


def _report(info: StatisticsInfo, out: Path, *, num_tensors: int, took_s: float, as_json: bool) -> None:
    size_bytes = out.stat().st_size
    if as_json:
        written = {"path": str(out), "size_bytes": size_bytes, "num_tensors": num_tensors}
        typer.echo(json.dumps(written | info.model_dump(exclude_none=True)))
        return
    what = f"{info.estimator} Fisher information" if info.kind == "fisher" else "Gram matrices"
    over = "" if info.kind == "fisher" else f" ({info.count:,} tokens, padding {info.padding})"
    typer.echo(f"{what} of {num_tensors} tensors from {info.num_examples:,} examples{over} in {took_s:.0f} s")
    typer.echo(f"wrote {out}, {size_bytes / 2**20:.1f} MiB, for model {info.model}")
