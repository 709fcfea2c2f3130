"""Setting examples apart for validation, whatever the task."""

from __future__ import annotations

import random
from typing import Any

from coldfuse.data.dataset import TextDataset, split
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.task import Task

VALIDATION_FRACTION = 0.1
"""Share of the examples that a node sets apart for validation where it is given none."""


def set_apart(task: Task, examples: Any, *, seed: int, fraction: float = VALIDATION_FRACTION) -> tuple[Any, Any]:
    """Split examples into those to train on and those to validate on; at random by `seed`, in the file's order.

    A task may say how: by a method `split(examples, validation_fraction=…, seed=…)`. Classes keep their shares.

    Args:
        task: What the examples are of.
        examples: What is split.
        seed: Decides which are set apart.
        fraction: Share that is set apart.

    Raises:
        UserInputError: There are too few examples.
    """
    own = getattr(task, "split", None)
    if own is not None:
        train, validation = own(examples, validation_fraction=fraction, seed=seed)
        return train, validation
    if isinstance(examples, TextDataset):
        return split(examples, validation_fraction=fraction, seed=seed)
    return split_at_random(examples, seed=seed, fraction=fraction)


def split_at_random(examples: Any, *, seed: int, fraction: float = VALIDATION_FRACTION) -> tuple[Any, Any]:
    """Split examples without looking at them; see `set_apart`."""
    count = len(examples)
    if count < 2:
        raise UserInputError(f"{count} example is too few to set any apart for validation; give some with --validation")
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 - a split, not a secret
    num_apart = max(1, round(count * fraction))
    return examples.take(sorted(order[num_apart:])), examples.take(sorted(order[:num_apart]))
