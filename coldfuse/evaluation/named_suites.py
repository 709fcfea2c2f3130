"""Suites that a gate compares two models on, as they are named: `NAME=FILE`, `NAME=TRAIN,TEST`, `NAME:TASK=FILE`."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any

from coldfuse.core.words import plural
from coldfuse.data.dataset import TextDataset, halves
from coldfuse.errors import UserInputError
from coldfuse.evaluation.suites import Suite, keys_of
from coldfuse.training.tasks import DEFAULT_TASK, describe_task, find_task
from coldfuse.training.tasks.task import DataRequest, Task

log = logging.getLogger(__name__)

MAX_EXAMPLES = 100_000
"""Number of examples that a suite may be tested on."""

_SUITE = re.compile(r"([a-z0-9][a-z0-9._-]{0,62})(?::([a-z0-9][a-z0-9-]*(?:\([^()]*\))?))?=(.+)", re.DOTALL)
"""NAME=FILES or NAME:TASK(options)=FILES."""

_NOT_COMPARED = frozenset({"contrastive-image-text"})
"""Tasks in which an example alone is right whatever the model."""

_LONGEST_EDIT_NAME = 50


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
        if task.name == "edit" and len(match[1]) > _LONGEST_EDIT_NAME:
            raise UserInputError(f"suite {match[1]}: the name of an edit has {_LONGEST_EDIT_NAME} letters at most")
        return cls(name=match[1], task=task, train=files[0], test=files[1] if len(files) > 1 else None)


def read_named_suite(files: SuiteFiles) -> Suite:
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
    return Suite(name=files.name, task=describe_task(task), train=train, tests={"": test})


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
