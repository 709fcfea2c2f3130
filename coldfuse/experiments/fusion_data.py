"""The data sets of the experiment, and how one of them is dealt out to several parties.

Each task is a folder of the data's folder with `train` and `test` files, and a `validation` file if there is one, as
CSV, TSV, JSON lines or Parquet.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.data.dataset import TextDataset, split
from coldfuse.data.reading import read_dataset
from coldfuse.errors import UserInputError
from coldfuse.training.schedule import derive_seed

_MOST = 0.8
"""Share of a label's examples that go to the parties whose main label it is, at most: the others shall know it too."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task's three parts. Training sees `train`; choices are made on `validation`; `test` is what is reported."""

    name: str
    train: TextDataset
    validation: TextDataset
    test: TextDataset


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many examples of a task are taken, at random, at most."""

    train: int
    validation: int
    test: int


def read_task(folder: Path, sizes: Sizes, *, seed: int, callback: Callable[[str], None] | None = None) -> Task:
    """Read a task. The seed decides which examples train; validation and test are the same for every seed.

    Args:
        folder: The task's folder.
        sizes: How many examples are taken.
        seed: Decides which of them train.
        callback: Called with the lines of what was read, before any are taken.
    """

    def read(part: str, names: Sequence[str] | None = None) -> TextDataset:
        data = read_dataset(_file(folder, part), label_names=names)
        if data.report is not None and callback is not None:
            for line in data.report.lines():
                callback(f"data: {line}")
        return data

    train = read("train")
    test = read("test", train.label_names)
    try:
        validation = read("validation", train.label_names)
    except FileNotFoundError:
        train, validation = split(train, seed=0)
    return Task(
        name=folder.name,
        train=sample(train, sizes.train, seed=seed),
        validation=sample(validation, sizes.validation, seed=0),
        test=sample(test, sizes.test, seed=0),
    )


def deal(data: TextDataset, *, num_parties: int, num_each: int, main_share: float, seed: int) -> list[TextDataset]:
    """Give each party as many examples; `main_share` of them have its main label, and nobody has another's example.

    The parties' main labels are those that have examples enough for all their parties, in turn. What is not of the main
    label is drawn from all that is left of the others; with a `main_share` of 0 the parties are alike.
    """
    order = list(range(len(data)))
    random.Random(derive_seed(seed, "deal")).shuffle(order)  # noqa: S311 - a sample, not a secret
    num_main = round(main_share * num_each)
    mains = _main_labels(data, num_parties, num_main)
    hands: list[list[int]] = []
    for main in mains:
        hands.append([index for index in order if data.labels[index] == main][:num_main])
        order = _without(order, hands[-1])
    for party, main in enumerate(mains):
        rest = [index for index in order if num_main == 0 or data.labels[index] != main][: num_each - num_main]
        if len(rest) < num_each - num_main:
            raise UserInputError(f"{len(data)} examples are too few for {num_parties} parties of {num_each}")
        hands[party] += rest
        order = _without(order, rest)
    return [data.take(sorted(hand)) for hand in hands]


def _main_labels(data: TextDataset, num_parties: int, num_main: int) -> list[int]:
    """Return each party's main label: of as many labels as have examples enough, with some to spare for the others."""
    by_frequency = Counter(data.labels).most_common()
    for num_labels in range(len(by_frequency), 0, -1):
        labels = [by_frequency[party % num_labels] for party in range(num_parties)]
        if all(labels.count(label) * num_main <= _MOST * label[1] for label in labels):
            return [number for number, _ in labels]
    raise UserInputError(f"no labels of {len(data)} examples have {num_main} for each of {num_parties} parties")


def _without(order: Sequence[int], taken: Sequence[int]) -> list[int]:
    gone = set(taken)
    return [index for index in order if index not in gone]


def sample(data: TextDataset, count: int, *, seed: int) -> TextDataset:
    """Take so many examples at random, or all if there are no more; they keep their order."""
    order = list(range(len(data)))
    random.Random(derive_seed(seed, "sample")).shuffle(order)  # noqa: S311 - a sample, not a secret
    return data.take(sorted(order[:count]))


def _file(folder: Path, part: str) -> Path:
    for suffix in (".parquet", ".csv", ".tsv", ".jsonl"):
        if (path := folder / (part + suffix)).is_file():
            return path
    if part == "validation":
        raise FileNotFoundError
    raise UserInputError(f"{folder}: expected {part}.parquet, .csv, .tsv or .jsonl, and there is none")
