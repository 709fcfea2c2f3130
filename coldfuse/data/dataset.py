"""A text-classification data set in memory: what a task's file becomes once it is read, and how it is split."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from coldfuse.data.report import DataReport
from coldfuse.errors import UserInputError

L = TypeVar("L", bound="Labelled")


@dataclass(frozen=True, kw_only=True)
class TextDataset:
    """Texts with their labels; a label is an index into `label_names`. No text is in its `repr`.

    >>> data = TextDataset(texts=("good", "bad"), labels=(1, 0), label_names=("negative", "positive"))
    >>> len(data), data.num_classes, data.take([1]).texts
    (2, 2, ('bad',))
    """

    texts: tuple[str, ...] = field(repr=False)
    """Texts to classify."""
    labels: tuple[int, ...] = field(repr=False)
    """Class of each text."""
    label_names: tuple[str, ...]
    """Names of the classes, in the order that the labels count them."""
    text_pairs: tuple[str, ...] | None = field(default=None, repr=False)
    """Second text of each example, in tasks that classify pairs."""
    report: DataReport | None = None
    """What was read to make it, unless it was made otherwise."""

    def __post_init__(self) -> None:
        """Refuse columns of different lengths and labels without a name: such a value cannot be trained on."""
        lengths = {len(self.texts), len(self.labels)} | (
            {len(self.text_pairs)} if self.text_pairs is not None else set()
        )
        if len(lengths) != 1:
            raise ValueError(f"texts, text_pairs and labels have different lengths: {sorted(lengths)}")
        if any(not 0 <= label < len(self.label_names) for label in self.labels):
            raise ValueError(f"labels must lie in 0..{len(self.label_names) - 1}")

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.texts)

    @property
    def num_classes(self) -> int:
        """Number of the task's classes, whether or not each has an example here."""
        return len(self.label_names)

    @property
    def num_dropped(self) -> int:
        """Number of rows that had no text or no label and were left out."""
        return self.report.num_left_out if self.report else 0

    def take(self, indices: Sequence[int]) -> TextDataset:
        """Return the examples at `indices`, in that order, as a data set of the same task."""
        pairs = self.text_pairs
        return TextDataset(
            texts=tuple(self.texts[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            label_names=self.label_names,
            text_pairs=None if pairs is None else tuple(pairs[i] for i in indices),
        )

    def digest(self) -> str:
        """Return the digest of texts, labels and label names."""
        digest = hashlib.sha256(json.dumps(self.label_names).encode())
        pairs = self.text_pairs or [None] * len(self)
        for row in zip(self.texts, pairs, self.labels, strict=True):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


class Labelled(Protocol):
    """Examples of classes."""

    @property
    def labels(self) -> Sequence[int]:
        """Class of each."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def take(self: L, indices: Sequence[int], /) -> L:
        """Return the examples at `indices`, in that order."""


def split(dataset: L, *, validation_fraction: float = 0.1, seed: int) -> tuple[L, L]:
    """Set examples apart for validation: the same share of every class, at random by `seed`, at least one in all.

    Every class keeps an example to train on, and both parts keep the file's order.

    Args:
        dataset: What is split.
        validation_fraction: Share of the examples that is set apart, between 0 and 1.
        seed: Decides which.

    Returns:
        The examples to train on, and those to validate on.

    Raises:
        UserInputError: The fraction is out of range, or there are too few examples to set one apart.
    """
    if not 0 < validation_fraction < 1:
        raise UserInputError(f"validation_fraction is {validation_fraction}, expected more than 0 and less than 1")
    members: dict[int, list[int]] = {}
    for index, label in enumerate(dataset.labels):
        members.setdefault(label, []).append(index)
    order = random.Random(seed)  # noqa: S311 - a split, not a secret
    num_left = max(1, round(len(dataset) * validation_fraction))
    chosen: set[int] = set()
    # Every class gives the whole part of its share; what is left goes to those with the largest remainders.
    by_remainder = sorted(members, key=lambda label: (-math.modf(len(members[label]) * validation_fraction)[0], label))
    spare = num_left - sum(int(len(indices) * validation_fraction) for indices in members.values())
    for place, label in enumerate(by_remainder):
        indices = members[label]
        order.shuffle(indices)
        num_wanted = int(len(indices) * validation_fraction) + (place < spare)
        chosen.update(indices[: min(num_wanted, len(indices) - 1)])
    if not chosen:
        raise UserInputError(f"{len(dataset)} examples of {len(members)} classes are too few to set any apart")
    kept = [index for index in range(len(dataset)) if index not in chosen]
    return dataset.take(kept), dataset.take(sorted(chosen))


def require_pairs_alike(train: TextDataset, validation: TextDataset) -> None:
    """Refuse to validate single texts on pairs, or the other way: the second texts were not found in one of them."""
    if (train.text_pairs is None) != (validation.text_pairs is None):
        which = "training data have" if validation.text_pairs is None else "validation data have"
        raise UserInputError(f"only the {which} a column of second texts; name it in both with --text-pair-column")


def halves(data: TextDataset) -> tuple[TextDataset, TextDataset]:
    """Deal the examples of every class in turn to two halves; the first has the larger share of each, and every class.

    Raises `UserInputError` if no class has two examples.

    >>> pair = halves(TextDataset(texts=("a", "b", "c", "d"), labels=(0, 1, 0, 0), label_names=("no", "yes")))
    >>> [half.texts for half in pair]
    [('a', 'b', 'd'), ('c',)]
    """
    dealt: tuple[list[int], list[int]] = ([], [])
    seen: Counter[int] = Counter()
    for index, label in enumerate(data.labels):
        dealt[seen[label] % 2].append(index)
        seen[label] += 1
    if not dealt[1]:
        raise UserInputError(f"{len(data)} examples of {len(seen)} classes are too few to set half of them apart")
    return data.take(dealt[0]), data.take(dealt[1])
