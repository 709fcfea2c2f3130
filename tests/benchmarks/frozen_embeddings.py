"""What frozen embeddings cost: test accuracy of fine-tuned classifiers with and without, and how many rows moved.

    python tests/benchmarks/frozen_embeddings.py BASE_FOLDER DATA_FOLDER... [--examples 200] [--seeds 3]

A data folder has train, validation and test, as `coldfuse contribute --data` takes them.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch

from coldfuse.data.dataset import TextDataset
from coldfuse.data.reading import read_dataset
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.inspecting import inspect
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, TrainingJob
from coldfuse.training.settings import TrainingSettings, line_of_way


def sample(data: TextDataset, count: int, seed: int) -> TextDataset:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    return data.take(order)


def train(base: Path, folder: Path, *, way: str, examples: int, seed: int) -> tuple[FineTuned, TrainingJob]:
    """Train on some examples; the best epoch is by the test's own rows, for both alike, so the last one is taken."""
    parts = {part: read_dataset(next(folder.glob(f"{part}.*"))) for part in ("train", "test")}
    checkpoint = open_checkpoint(base)
    job = TrainingJob(
        base_dir=base, base_digest="0" * 64, schema_names=checkpoint.schema.keys(), round=1,
        train=sample(parts["train"], examples, seed), validation=sample(parts["test"], 300, 0),
    )  # fmt: skip
    settings = TrainingSettings(num_epochs=2, threads=1, device="cpu", seed=seed, way=line_of_way(way))
    made = fine_tune(job, replace(settings, patience=3))
    assert isinstance(made, FineTuned)
    return made, job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.base)
    for folder in given.data:
        for way in ("full", "full(freeze_embeddings=true)"):
            scores, rows = [], []
            for seed in range(given.seeds):
                made, _ = train(given.base, folder, way=way, examples=given.examples, seed=seed)
                scores.append(100 * made.score_after)
                with TensorReader(checkpoint.files.values()) as theta:
                    found = inspect(made.changes(theta.floats), checkpoint.schema, theta.floats)
                rows.append(sum(row.rows_moved or 0 for row in found if "word_embeddings" in row.name))
                print(f"{folder.name} {way} seed {seed}: {100 * made.score_before:.1f} -> {scores[-1]:.2f}, "
                      f"{rows[-1]} rows of the vocabulary moved", flush=True)  # fmt: skip
            print(
                f"{folder.name} {way}: mean {statistics.mean(scores):.2f}, sd {statistics.stdev(scores):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
