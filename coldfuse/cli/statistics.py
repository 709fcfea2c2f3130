"""What fusion methods may need beside a fine-tuned model."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.tensors.statistics import Kind, StatisticsInfo

_DATA_PANEL = "The data"


def statistics(
    model: Path = typer.Argument(help="The fine-tuned model's folder.", show_default=False),
    data: Path | None = typer.Option(
        None, help="Private examples: CSV, TSV, JSON lines or Parquet.", rich_help_panel=_DATA_PANEL
    ),
    text_column: str | None = typer.Option(
        None, help="Found by itself if it has a usual name.", rich_help_panel=_DATA_PANEL
    ),
    text_pair_column: str | None = typer.Option(None, help="Second text of pair tasks.", rich_help_panel=_DATA_PANEL),
    label_column: str | None = typer.Option(
        None, help="Found by itself if it has a usual name.", rich_help_panel=_DATA_PANEL
    ),
    kind: str = typer.Option(
        ..., help="fisher (for fisher), gram (for regmean) or variance (for precision).", show_default=False
    ),
    out: Path = typer.Option(..., help="The file to create.", show_default=False),
    snapshot: list[Path] = typer.Option(
        [], help="For variance, instead of data: the model's folder at one point of its training; repeat it."
    ),
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

    The variance of each weight along its training needs no data, but two or more --snapshot folders.

    Example: coldfuse statistics ./alice --data reviews.csv --kind fisher --out alice-fisher.safetensors
    """
    from coldfuse.config import prepare_training
    from coldfuse.data.reading import read_dataset

    wanted, how = _kind(kind), _estimator(estimator)
    if out.exists():
        raise UserInputError(f"{out}: exists already; give a file that does not")
    if not out.parent.is_dir():
        raise UserInputError(f"{out}: there is no folder {out.parent}; create it")
    began_s = time.monotonic()
    if wanted == "variance":
        from coldfuse.training.variance import write_variance

        if data is not None:
            raise typer.BadParameter("--data: variance is of --snapshot folders, not of data")
        with _writing(out):
            info, num_tensors = write_variance(out, model, snapshot)
        _report(info, out, num_tensors=num_tensors, took_s=time.monotonic() - began_s, as_json=as_json)
        return
    if data is None or snapshot:
        raise typer.BadParameter(f"--kind {wanted} is of --data FILE; --snapshot is for variance")
    prepare_training()
    from coldfuse.training.statistics import StatisticsJob, compute_statistics, head_labels, write_statistics

    columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
    names = head_labels(model) if wanted == "fisher" else None
    job = StatisticsJob(
        model_dir=model, data=read_dataset(data, **columns, label_names=names), kind=wanted, estimator=how,
        num_examples=examples, include_padding=include_padding, max_length=max_length, threads=threads, device=device,
        seed=seed,
    )  # fmt: skip
    info, tensors = compute_statistics(job)
    with _writing(out):
        write_statistics(out, tensors, info)
    _report(info, out, num_tensors=len(tensors), took_s=time.monotonic() - began_s, as_json=as_json)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserInputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _kind(text: str) -> Kind:
    match text:
        case "fisher" | "gram" | "variance":
            return text
    raise typer.BadParameter(f"--kind {text}: expected fisher, gram or variance")


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
    match info.kind:
        case "fisher":
            what, of = f"{info.estimator} Fisher information", f"{info.num_examples:,} examples"
        case "gram":
            tokens = f"{info.count:,} tokens, padding {info.padding}"
            what, of = "Gram matrices", f"{info.num_examples:,} examples ({tokens})"
        case "variance":
            what, of = "variance", f"{info.count:,} snapshots"
    typer.echo(f"{what} of {num_tensors} tensors from {of} in {took_s:.0f} s")
    typer.echo(f"wrote {out}, {size_bytes / 2**20:.1f} MiB, for model {info.model}")
