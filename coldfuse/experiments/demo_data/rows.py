"""Who has which rows of the samples."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from coldfuse.experiments.demo_data import HARMFUL, HARMFUL_TEXTS, DemoSettings, DemoTask


def private_rows(task: DemoTask, settings: DemoSettings, *, seed: int) -> pa.Table:
    """Return a contributor's rows; those of who harms have the labels of other rows."""
    file = (HARMFUL_TEXTS if task is HARMFUL else task).train_file
    rows = parquet.read_table(file).slice(0, settings.num_train)
    if task is not HARMFUL:
        return rows
    labels = rows["label"].to_pylist()
    random.Random(seed).shuffle(labels)  # noqa: S311 - no secret
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(labels))


def write_suite(task: DemoTask, settings: DemoSettings, folder: Path) -> str:
    """Write the operator's own examples of a task, which nobody trains on and no table scores.

    Returns:
        What `coldfuse aggregator --suite` takes.
    """
    folder.mkdir(exist_ok=True)
    rows = parquet.read_table(task.test_file).slice(settings.num_probe_test, settings.num_suite)
    parquet.write_table(rows, folder / f"{task.name}.parquet")
    return f"{task.name}={folder / f'{task.name}.parquet'}"
