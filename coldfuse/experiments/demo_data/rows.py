"""Who has which rows of the samples: contributors, the operator's suites, and the table have none in common."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from coldfuse.experiments.demo_data import HARMFUL, HARMFUL_TEXTS, DemoSettings, DemoTask


def private_rows(task: DemoTask, settings: DemoSettings, *, seed: int) -> pa.Table:
    """Return a contributor's rows; those of who harms have the labels of other rows."""
    if task is not HARMFUL:
        return parquet.read_table(task.train_file).slice(0, settings.num_train)
    rows = parquet.read_table(HARMFUL_TEXTS.train_file).slice(0, settings.num_harmful)
    labels = rows["label"].to_pylist()
    random.Random(seed).shuffle(labels)  # noqa: S311 - no secret
    return rows.set_column(rows.column_names.index("label"), "label", pa.array(labels))


def write_suite(task: DemoTask, settings: DemoSettings, folder: Path) -> str:
    """Write the operator's own examples of a task, which nobody trains on and no table scores.

    Returns:
        What `coldfuse aggregator --suite` takes.
    """
    own = folder / task.name
    own.mkdir(parents=True)
    # So few rows may lack a class that others have: the card names them all.
    shutil.copy(task.train_file.with_name("card.json"), own)
    train, test = parquet.read_table(task.train_file), parquet.read_table(task.test_file)
    parquet.write_table(train.slice(len(train) - settings.num_suite), own / "train.parquet")
    parquet.write_table(test.slice(settings.num_probe_test, settings.num_suite), own / "test.parquet")
    return f"{task.name}={own / 'train.parquet'},{own / 'test.parquet'}"
