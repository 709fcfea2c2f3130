"""What fusion methods may need beside a fine-tuned model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

import typer

from coldfuse.cli.data_view import show_data
from coldfuse.cli.data_words import columns_of, file_format_of, named_columns
from coldfuse.cli.options.statistics import StatisticsOptions
from coldfuse.data.reading import read_dataset
from coldfuse.data.report import DataReport
from coldfuse.errors import UserInputError
from coldfuse.tensors.statistics import StatisticsInfo
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.statistics import (
    StatisticsJob,
    Tensors,
    compute_statistics,
    compute_task_statistics,
    head_labels,
    write_statistics,
)
from coldfuse.training.task_statistics import Wish
from coldfuse.training.tasks import DEFAULT_TASK, find_task
from coldfuse.training.tasks.task import DataRequest
from coldfuse.training.variance import write_variance


def statistics(options: StatisticsOptions) -> None:
    """Compute what private data say of a fine-tuned model."""
    out, began_s = options.out, time.monotonic()
    read: DataReport | None = None
    if out.exists():
        raise UserInputError(f"{out}: exists already; give a file that does not")
    if not out.parent.is_dir():
        raise UserInputError(f"{out}: there is no folder {out.parent}; create it")
    if options.kind == "variance":
        if options.data:
            raise typer.BadParameter("--data: variance is of --snapshot folders, not of data")
        info, num_tensors = write_variance(out, options.model, options.snapshot)
    else:
        if not options.data or options.snapshot:
            raise typer.BadParameter(f"--kind {options.kind} is of --data FILE; --snapshot is for variance")
        info, tensors, read = _computed(options, options.kind)
        num_tensors = len(tensors)
        write_statistics(out, tensors, info)
    if options.as_json:
        written = {"path": str(out), "size_bytes": out.stat().st_size, "num_tensors": num_tensors}
        data = {"data": read.as_json()} if read else {}
        typer.echo(json.dumps(written | info.model_dump(exclude_none=True) | data))
    else:
        _report(info, out, num_tensors=num_tensors, took_s=time.monotonic() - began_s)


def _computed(
    options: StatisticsOptions, kind: Literal["fisher", "gram"]
) -> tuple[StatisticsInfo, Tensors, DataReport | None]:
    if options.task == DEFAULT_TASK:
        job = _job(options, kind)
        if not options.as_json:
            show_data(job.data)
        return *compute_statistics(job), job.data.report
    if options.include_padding:
        raise typer.BadParameter("--include-padding is for text-classification alone")
    task, columns = find_task(options.task), options.columns
    examples = task.read(DataRequest(
        data=options.data, columns=named_columns(columns), file_format=file_format_of(columns),
        limit=columns.max_examples,
    ))  # fmt: skip
    if not options.as_json:
        show_data(examples)
    settings = TrainingSettings(
        max_length=options.max_length, threads=options.threads, device=options.device, seed=options.seed
    )
    estimator: Literal["auto", "empirical"] = "auto" if options.estimator == "exact" else "empirical"
    wish = Wish(kind=kind, estimator=estimator, num_examples=options.examples, seed=options.seed)
    return *compute_task_statistics(options.model, task, examples, settings, wish), examples.report


def _job(options: StatisticsOptions, kind: Literal["fisher", "gram"]) -> StatisticsJob:
    labels = head_labels(options.model) if kind == "fisher" else None
    data = read_dataset(options.data, **columns_of(options.columns), label_names=labels)
    return StatisticsJob(
        model_dir=options.model, data=data, kind=kind,
        estimator=options.estimator, num_examples=options.examples,
        include_padding=options.include_padding, max_length=options.max_length, threads=options.threads,
        device=options.device, seed=options.seed,
    )  # fmt: skip


def _report(info: StatisticsInfo, out: Path, *, num_tensors: int, took_s: float) -> None:
    match info.kind:
        case "fisher":
            what, of = f"{info.estimator} Fisher information", f"{info.num_examples:,} examples"
        case "gram":
            tokens = f"{info.count:,} tokens, padding {info.padding}"
            what, of = "Gram matrices", f"{info.num_examples:,} examples ({tokens})"
        case "variance":
            what, of = "variance", f"{info.count:,} snapshots"
    typer.echo(f"{what} of {num_tensors} tensors from {of} in {took_s:.0f} s")
    typer.echo(f"wrote {out}, {out.stat().st_size / 2**20:.1f} MiB, for model {info.model}")
