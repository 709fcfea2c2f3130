"""Data sets that models are scored on: what is trained on, and one or several test sets of the same task.

- `--data FILE`: a share of the examples is set apart as test, the same for every model and seed.
- `--data FOLDER`: a folder with train and test files is taken as it is parted.
- `--train FILE --test FILE`, out of distribution: trained on the one, tested on its own rest and on the other, which
  has the same labels and another source (as in GLUE-X, arXiv 2211.08073).
- `--time-column NAME`, cut by time: trained on the earliest slice, tested on its own rest and on each later one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.core.words import plural
from coldfuse.data.folders import parts_of
from coldfuse.data.tables import FileFormat
from coldfuse.errors import UserInputError
from coldfuse.evaluation.harness import PREFIX, HarnessTask, version_of_harness
from coldfuse.evaluation.slices import Slice, cut_by_time
from coldfuse.training.schedule import derive_seed
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.edit_rows import EditKind, of_kind
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest
from coldfuse.training.tasks.texts import Passage

TEST_FRACTION = 0.3
"""Share of the examples that is tested on, where there is no test file."""

EDIT_PREFIX = "edit:"
"""What stands before the file of an edit."""

_EDIT_TESTS: dict[EditKind, str] = {"edit": "efficacy", "paraphrase": "paraphrases", "keep": "locality"}
"""What the field calls the scores of an edit's parts."""

_DULL = {"train", "training", "test", "data", "dataset", "examples", "validation"}
"""Names of files that say nothing: the folder's name does."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A data set that models are scored on."""

    name: str
    """What people call it."""
    task: str
    """Line of the task."""
    train: Any = field(repr=False)
    """Examples to train on; None where nothing is trained."""
    tests: Mapping[str, Any] = field(repr=False)
    """Examples to test on, by name; "" where there is one."""
    notes: tuple[str, ...] = ()
    """What was read, for people."""
    shared: tuple[str, ...] = ()
    """What a test set shares with what is trained on, for the evaluation's notes."""

    @property
    def is_harness(self) -> bool:
        """Whether it is a task of lm-evaluation-harness, which brings data and metric."""
        return self.task.startswith(PREFIX)

    @property
    def is_edit(self) -> bool:
        """Whether it is an edit's, which a model is asked about as it is."""
        return not self.is_harness and find_task(self.task).name == "edit"

    @property
    def test(self) -> Any:
        """Examples of the one test set."""
        return next(iter(self.tests.values()))

    @property
    def num_tests(self) -> int:
        """Number of examples to test on."""
        return sum(map(len, self.tests.values()))

    def called(self, name: str) -> Suite:
        """Return the same by another name."""
        return replace(self, name=name)

    def digest(self) -> str:
        """Return the digest of all that is trained and tested on."""
        tests = [[name, examples.digest()] for name, examples in self.tests.items()]
        train = None if self.train is None else self.train.digest()
        return sha256(canonical_json([self.task, train, tests]))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How data are read."""

    task: str
    """Line of the task."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of each role that the user names."""
    file_format: FileFormat | None = None
    """Separator and encoding of text files; None: they are found."""
    limit: int | None = None
    """Examples that are read of a file, at most."""
    num_train: int | None = None
    """Examples that are trained on at most, drawn once for all models and seeds; None for all."""
    num_test: int | None = None
    """Examples of a test set at most, drawn once for all; None for all."""
    trains: bool = True
    """Whether anything is trained; without, every example tests."""

    def read(self, data: Path | str | Sequence[Path | str], *, like: Any = None) -> Any:
        """Read examples. Raises `UserInputError` where they cannot be."""
        request = DataRequest(data=data, columns=self.columns, file_format=self.file_format, limit=self.limit)
        return find_task(self.task).read(request, like=like)

    def suite(self, name: str, train: Any, tests: Mapping[str, Any]) -> Suite:
        """Return a suite of examples that were read, no more of them than are wanted."""
        notes = [line for report in _reports(train, *tests.values()) for line in report.lines()]
        chosen = None if train is None else some(train, self.num_train)
        tested = {test: some(examples, self.num_test) for test, examples in tests.items()}
        shared = [line for test, examples in tested.items() if (line := _overlap(chosen, examples, f"{name} {test}"))]
        return Suite(name=name, task=self.task, train=chosen, tests=tested, notes=tuple(notes), shared=tuple(shared))

    def apart(self, examples: Any) -> tuple[Any, Any]:
        """Split examples in those to train on and those to test on."""
        train, test = set_apart(find_task(self.task), examples, seed=0, fraction=TEST_FRACTION)
        return train, test


def read_suite(data: str, reading: Reading) -> Suite:
    """Read a file, or a folder with train and test files.

    Raises:
        UserInputError: It cannot be read, or has too few examples to set some apart.
    """
    name, parts = name_of(data), parts_of(Path(data)) if os.path.isdir(data) else {}
    tested = parts.get("test") or parts.get("validation")
    if "train" in parts and tested:
        train = reading.read(parts["train"])
        tests = {"": reading.read(tested, like=train)}
        return reading.suite(name, train if reading.trains else None, tests)
    examples = reading.read(data)
    if not reading.trains:
        return reading.suite(name, None, {"": whole_documents(examples)})
    train, test = reading.apart(examples)
    suite = reading.suite(name, train, {"": test})
    return _noted(suite, examples)


def read_pair(train: str, test: str, reading: Reading) -> Suite:
    """Read a pair: what is trained on the one is tested on its own rest, and on the other.

    Raises:
        UserInputError: One cannot be read, or the second has labels that the first lacks.
    """
    if not reading.trains:
        raise UserInputError("--train, --test: perplexity trains on nothing; name what is scored with --data")
    examples = reading.read(train)
    other = reading.read(test, like=examples)
    own_train, own_test = reading.apart(examples)
    own, others = distinct_names([name_of(train), name_of(test)])
    suite = reading.suite(own, own_train, {"": own_test, others: other})
    return _noted(suite, examples)


def read_slices(data: str, reading: Reading, *, column: str, num_slices: int, scratch: Path) -> Suite:
    """Read a file in slices of time: what is trained on the earliest is tested on its own rest and on the later ones.

    Args:
        data: The file.
        reading: How it is read.
        column: Column that says when an example is from.
        num_slices: Slices of about as many rows.
        scratch: Folder for the slices' files.

    Raises:
        UserInputError: It cannot be read, or cut so.
    """
    slices = cut_by_time(data, column, num_slices, folder=scratch, file_format=reading.file_format)
    name = name_of(data)
    inside = replace(reading, file_format=None)
    first, *later = slices
    earliest = _slice(inside, first, name)
    tests = {piece.name: _slice(inside, piece, name, like=earliest) for piece in later}
    sizes = ", ".join(f"{piece.name} ({piece.num_rows:,})" for piece in slices)
    train, own = inside.apart(earliest) if reading.trains else (None, earliest)
    suite = inside.suite(name, train, {first.name: own, **tests})
    return replace(suite, notes=(f"{name}: rows by {column}: {sizes}",))


def _slice(reading: Reading, piece: Slice, name: str, *, like: Any = None) -> Any:
    try:
        return reading.read(piece.path, like=like)
    except UserInputError as error:
        said = str(error).replace(str(piece.path), f"{name}, {piece.name}")
        raise UserInputError(f"{said}; take fewer --slices where there are too few rows in one") from error


def read_harness(name: str, *, limit: int | None) -> Suite:
    """Return a task of lm-evaluation-harness as a data set.

    Raises:
        UserInputError: It is no `lm-eval:TASK`.
        MissingExtraError: The harness is not installed.
    """
    task = name.removeprefix(PREFIX)
    if task == name or not task:
        raise UserInputError(f"--suite {name}: expected {PREFIX}TASK, such as {PREFIX}arc_easy, or {EDIT_PREFIX}FILE")
    version_of_harness()
    return Suite(name=name, task=name, train=None, tests={"": HarnessTask(name=task, limit=limit)})


def read_edits(name: str, *, limit: int | None) -> Suite:
    """Return an edit's file as a data set with a test set for each part: efficacy, paraphrases and locality.

    Raises:
        UserInputError: It is no `edit:FILE`, or the file cannot be read.
    """
    file = name.removeprefix(EDIT_PREFIX)
    if not file:
        raise UserInputError(f"--suite {name}: expected {EDIT_PREFIX}FILE")
    rows = find_task("edit").read(DataRequest(data=file))
    tests = {called: some(own, limit) for kind, called in _EDIT_TESTS.items() if len(own := of_kind(rows, kind))}
    notes = () if rows.report is None else tuple(rows.report.lines())
    return Suite(name=name_of(file), task="edit", train=None, tests=tests, notes=notes)


def some(examples: Any, count: int | None) -> Any:
    """Return as many examples at random, the same every time, in their order; all where there are no more."""
    if count is None or len(examples) <= count:
        return examples
    order = list(range(len(examples)))
    random.Random(derive_seed("some", len(examples))).shuffle(order)  # noqa: S311 - a sample, not a secret
    return examples.take(sorted(order[:count]))


def whole_documents(examples: Any) -> Any:
    """Return documents that were read in passages, as training wants them, whole; other examples as they are."""
    rows: tuple[Any, ...] = getattr(examples, "rows", ())
    if not rows or not isinstance(rows[0], Passage) or all(row.begins and row.ends for row in rows):
        return examples
    texts: list[list[str]] = []
    for passage in rows:
        if passage.begins or not texts:
            texts.append([])
        texts[-1].append(passage.text)
    return replace(examples, rows=tuple(Passage(text="".join(parts)) for parts in texts), report=None)


def name_of(data: str) -> str:
    """Return what people call a file or folder.

    >>> name_of("texts/sst2/train.parquet"), name_of("reviews.csv.gz"), name_of("data/cola/")
    ('sst2', 'reviews', 'cola')
    """
    path = Path(data)
    stem = path.name.partition(".")[0] or path.name
    return path.parent.name if stem.lower() in _DULL and path.parent.name else stem or data[:100]


def distinct_names(names: Sequence[str]) -> list[str]:
    """Return names of which no two are alike.

    >>> distinct_names(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    found: list[str] = []
    for name in names:
        count, free = 1, name
        while free in found:
            count += 1
            free = f"{name} ({count})"
        found.append(free)
    return found


def _overlap(train: Any, test: Any, where: str) -> str:
    """Say how many test examples are trained on, too; nothing where none is."""
    seen = set(keys_of(train)) if train is not None else set()
    count = sum(key in seen for key in keys_of(test))
    if not count:
        return ""
    return f"{where.strip()}: {count:,} of {plural(len(test), 'test example')} are among those that are trained on"


def keys_of(examples: Any) -> Sequence[Any]:
    """Return what tells examples apart, whatever their labels: texts, pictures' digests, or whole rows."""
    if texts := getattr(examples, "texts", ()):
        return list(zip(texts, getattr(examples, "text_pairs", None) or texts, strict=True))
    return getattr(examples, "digests", ()) or getattr(examples, "rows", ())


def _noted(suite: Suite, examples: Any) -> Suite:
    return replace(suite, notes=(*(line for report in _reports(examples) for line in report.lines()), *suite.notes))


def _reports(*examples: Any) -> list[Any]:
    return [each.report for each in examples if getattr(each, "report", None) is not None]
