"""Suites that a gate compares two models on, example by example: a file of examples, and the kind of their task.

Shape letter: N examples of the suite's test data.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.core.words import plural
from coldfuse.data.dataset import TextDataset, halves
from coldfuse.errors import UserInputError
from coldfuse.evaluation.suites import keys_of
from coldfuse.training.tasks import DEFAULT_TASK, describe_task, find_task
from coldfuse.training.tasks.task import DataRequest, Task

log = logging.getLogger(__name__)

MAX_EXAMPLES = 100_000
"""Number of examples that a suite may be tested on."""

_SUITE = re.compile(r"([a-z0-9][a-z0-9._-]{0,62})(?::([a-z0-9][a-z0-9-]*(?:\([^()]*\))?))?=(.+)", re.DOTALL)
"""NAME=FILES or NAME:TASK(options)=FILES."""

_NOT_COMPARED = frozenset({"contrastive-image-text"})
"""Tasks in which an example alone is right whatever the model."""

Outcomes = NDArray[np.float64]
"""Shape (N,): how well a model does on each example, higher is better; 1 and 0 where an answer is right or wrong."""


@dataclass(frozen=True, kw_only=True)
class SuiteFiles:
    """Where a suite's data are."""

    name: str
    task: Task
    train: str
    """File that the head is fitted on; of one file alone, one half of it."""
    test: str | None = None
    """File that models are compared on; None: the other half of the first."""

    @classmethod
    def parse(cls, text: str) -> SuiteFiles:
        """Read `NAME=FILE`, `NAME=TRAIN,TEST` or `NAME:TASK=…`, with a task's options in parentheses.

        >>> SuiteFiles.parse("mood=train.csv,test.csv").test, SuiteFiles.parse("stars:regression=all.csv").task.name
        ('test.csv', 'regression')

        Raises:
            UserInputError: It is none of these.
        """
        match = _SUITE.fullmatch(text.strip())
        files = [file.strip() for file in match[3].split(",")] if match else []
        if match is None or not all(files) or len(files) > 2:
            raise UserInputError(
                f"suite {text!r}: expected NAME=FILE, NAME=TRAIN,TEST or NAME:TASK=FILE, with a name of lower-case "
                "letters, digits, '.', '_' and '-'"
            )
        task = find_task(match[2] or DEFAULT_TASK)
        if task.name in _NOT_COMPARED:
            raise UserInputError(f"suite {match[1]}: models are not compared by examples of {task.name}")
        return cls(name=match[1], task=task, train=files[0], test=files[1] if len(files) > 1 else None)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A suite, read into memory. None of its examples is in its `repr`."""

    name: str
    task: Task
    train: Any
    """Examples that the private head is fitted on; those to be tested on, where the task has no such head."""
    test: Any
    """Examples that models are compared on."""

    def __repr__(self) -> str:
        """Say how many examples there are."""
        return f"Suite({self.name!r}, {self.task.name}, {len(self.test)} examples)"

    def digest(self) -> str:
        """Return the digest of all that decides how a model does on it."""
        return sha256(canonical_json([describe_task(self.task), self.train.digest(), self.test.digest()]))

    def __len__(self) -> int:
        """Return the number of examples that models are compared on."""
        return len(self.test)


def read_suite(files: SuiteFiles) -> Suite:
    """Read a suite's data; what the head is fitted on is not tested on, as it would tell nothing.

    Raises:
        UserInputError: A file cannot be read, or there are too few examples, or too many, or none that are not trained
            on.
    """
    task = files.task
    train = task.read(DataRequest(data=files.train))
    if files.test is not None:
        test = task.read(DataRequest(data=files.test), like=train)
    elif task.has_private_head:
        train, test = halves(train) if isinstance(train, TextDataset) else _in_turn(files.name, train)
    else:
        test = train
    if task.has_private_head:
        test = _apart(files.name, train, test)
    if not 0 < len(test) <= MAX_EXAMPLES:
        raise UserInputError(f"suite {files.name}: {len(test):,} examples to test on, expected 1 to {MAX_EXAMPLES:,}")
    return Suite(name=files.name, task=task, train=train, test=test)


def _apart(name: str, train: Any, test: Any) -> Any:
    """Return the examples to test on without those that are trained on, too."""
    seen, keys = set(keys_of(train)), keys_of(test)
    shared = {place for place, key in enumerate(keys) if key in seen}
    if not shared:
        return test
    if len(shared) == len(test):
        raise UserInputError(
            f"suite {name}: all of its {plural(len(test), 'example')} to test on are among those that the head is "
            "fitted on; give it others"
        )
    log.warning(
        "suite %s: %d of %s to test on are among those that the head is fitted on, and are left out", name, len(shared),
        plural(len(test), "example"),
    )  # fmt: skip
    return test.take([place for place in range(len(test)) if place not in shared])


def _in_turn(name: str, examples: Any) -> tuple[Any, Any]:
    if len(examples) < 2:
        raise UserInputError(f"suite {name}: one example is too few; give NAME=TRAIN,TEST")
    return examples.take(range(0, len(examples), 2)), examples.take(range(1, len(examples), 2))


def nothing_right(like: Outcomes) -> Outcomes:
    """Return the outcomes of a model that gets nothing right of what another one's outcomes are of."""
    is_right_or_wrong = bool(((like == 0) | (like == 1)).all())
    return np.full_like(like, 0.0 if is_right_or_wrong else -math.inf)


def compare(before: Outcomes, after: Outcomes) -> tuple[int, int]:
    """Count the examples on which only the one before does well, or better, and only the one after.

    >>> compare(np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0]))
    (1, 1)
    """
    return int((before > after).sum()), int((after > before).sum())
