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

WAYS = ("full", "full(freeze_embeddings=true)")


def sample(data: TextDataset, count: int, seed: int) -> TextDataset:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    return data.take(order)


def train(base: Path, folder: Path, *, way: str, examples: int, seed: int) -> FineTuned:
    """Train on some examples; scores, and the choice of the epoch, are by 300 rows of the test, for both ways alike."""
    parts = {part: read_dataset(next(folder.glob(f"{part}.*"))) for part in ("train", "test")}
    checkpoint = open_checkpoint(base)
    job = TrainingJob(
        base_dir=base, base_digest="0" * 64, schema_names=checkpoint.schema.keys(), round=1,
        train=sample(parts["train"], examples, seed), validation=sample(parts["test"], 300, 0),
    )  # fmt: skip
    settings = TrainingSettings(num_epochs=2, threads=1, device="cpu", seed=seed, way=line_of_way(way))
    made = fine_tune(job, replace(settings, patience=3))
    assert isinstance(made, FineTuned)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    checkpoint = open_checkpoint(given.base)
    for folder in given.data:
        scores: dict[str, list[float]] = {way: [] for way in WAYS}
        for seed in range(given.seeds):
            for way in WAYS:
                made = train(given.base, folder, way=way, examples=given.examples, seed=seed)
                with TensorReader(checkpoint.files.values()) as theta:
                    found = inspect(made.changes(theta.floats), checkpoint.schema, theta.floats)
                rows = sum(row.rows_moved or 0 for row in found if "word_embeddings" in row.name)
                scores[way].append(100 * made.score_after)
                print(
                    f"{folder.name} seed {seed} {way}: {100 * made.score_before:.2f} -> {scores[way][-1]:.2f}, "
                    f"{rows} rows of the vocabulary moved", flush=True,
                )  # fmt: skip
        for way in WAYS:
            print(f"{folder.name} {way}: mean {statistics.mean(scores[way]):.2f} of {given.seeds} seeds", flush=True)


if __name__ == "__main__":
    main()
