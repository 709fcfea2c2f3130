"""Examples of a task as rows that have been checked, and the cells of files that hold lists or nested values."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, Generic, TypeVar

from coldfuse.core.words import plural
from coldfuse.data.records import Records, RecordsReport, Role, read_records
from coldfuse.data.report import files_in_short
from coldfuse.data.words import listing
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.task import DataRequest

R = TypeVar("R")
C = TypeVar("C")
F = TypeVar("F", bound=Sized)

NO_LABEL = -100
"""Label of what is not predicted; every loss of transformers leaves it out."""

_LONGEST_LITERAL = 1 << 22
_ARRAY = re.compile(r"\barray\((\[[^()]*\])(?:,\s*dtype=[^()]*)?\)")
"""An array as NumPy shows it inside of something else, which is how `datasets` and pandas write CSV."""
_BETWEEN = re.compile(r"\}\n\s*\{")
"""Two mappings as NumPy prints them; a line of a text is never broken there, as it is written with a backslash."""
_ITEM = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d*)?""")
_WITHOUT_COMMAS = re.compile(rf"\[\s*(?:{_ITEM.pattern})(?:\s+(?:{_ITEM.pattern}))+\s*\]")
"""A list as NumPy prints it."""


@dataclass(frozen=True, kw_only=True)
class Rows(Generic[R]):
    """Examples of one task: rows of its own kind, with all that decides what is trained on them.

    >>> rows = Rows(rows=("a", "b"), options=None)
    >>> len(rows), rows.take([1]).rows, rows.digest() == rows.take([0, 1]).digest()
    (2, ('b',), True)
    """

    rows: tuple[R, ...] = field(repr=False)
    """Examples, as the task's frozen dataclass or plain values."""
    names: tuple[str, ...] = ()
    """Names that numbers in the rows count into, such as tags."""
    options: Any
    """Options of the task, a frozen dataclass: they decide what is made of a row."""
    report: Any = field(default=None, compare=False, repr=False)
    """What was read to make them; it decides nothing."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.rows)

    def take(self, indices: Sequence[int]) -> Rows[R]:
        """Return the examples at `indices`, in that order."""
        return replace(self, rows=tuple(self.rows[i] for i in indices), report=None)

    def digest(self) -> str:
        """Return the digest of rows, names and options: of all that decides."""
        digest = hashlib.sha256(json.dumps([_plain(self.options), self.names], sort_keys=True).encode())
        for row in self.rows:
            digest.update(json.dumps(_plain(row)).encode())
        return digest.hexdigest()


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def read_cells(request: DataRequest, roles: Sequence[Role]) -> Records:
    """Read what a request asks for, by role.

    Raises `UserInputError` where it cannot be read, or has no column that the task reads.
    """
    records = read_records(
        request.data, roles, columns=request.columns, file_format=request.file_format, limit=request.limit
    )
    if not len(records):  # where no role is required, none may have been found
        files = files_in_short(records.report.files) if records.report else "the data"
        raise UserInputError(
            f"{files}: no column is called as those that this task reads; name them with --column ROLE=NAME, for "
            f"{listing(role.name for role in roles)}"
        )
    return records


def parse_rows(records: Records, parse: Callable[[Mapping[str, object]], Iterable[C]]) -> tuple[list[C], int]:
    """Parse every row, and return what was made of them with the number of those that hold nothing to learn from.

    Args:
        records: Rows by role.
        parse: Returns the examples of a row, none for an empty one. It raises `ValueError` with what is wrong, never
            with what the row holds.

    Raises:
        UserInputError: Rows are wrong, or none has anything to learn from: where the first is, what is wrong with it,
            and how many more there are.
    """
    parsed: list[C] = []
    wrong: list[str] = []
    num_empty = 0
    for index, row in enumerate(records.rows):
        try:
            examples = list(parse(row))
        except ValueError as error:
            wrong.append(f"{records.place(index)}: {error}")
            continue
        num_empty += not examples
        parsed += examples
    if wrong:
        more = f" ({plural(len(wrong) - 1, 'more row')} cannot be read)" if len(wrong) > 1 else ""
        raise UserInputError(wrong[0] + more)
    if not parsed:
        raise UserInputError(f"none of {plural(num_empty, 'row')} has anything to learn from: all are empty")
    return parsed, num_empty


def require_some(features: F, lacking: str) -> F:
    """Return features as they are. Raises `UserInputError`, saying what is lacking, where there is none."""
    if not len(features):
        raise UserInputError(f"{lacking}, so that there is nothing to learn from; see that the base is for such data")
    return features


def said(report: RecordsReport | None, *, num_empty: int = 0, notes: Sequence[str] = ()) -> RecordsReport | None:
    """Return what was read with what the task itself has to say of it: rows left out because they are empty, notes."""
    if report is None:
        return None
    missing = dict(report.missing) | ({"anything to learn from": num_empty} if num_empty else {})
    return replace(report, missing=missing, notes=(*report.notes, *notes))


def as_list(cell: object) -> list[Any] | None:
    """Return a cell as a list: one already, or one as text, in JSON or as Python prints it; None for any other.

    >>> as_list(["a"]), as_list('["a", "b"]'), as_list("['a', 'b']"), as_list("a b")
    (['a'], ['a', 'b'], ['a', 'b'], None)
    """
    value = nested(cell)
    return list(value) if isinstance(value, list | tuple) else None


def nested(cell: object) -> object:
    """Return a cell that holds a list or a mapping as text (in a CSV file) as that; any other as it is.

    >>> nested('{"text": ["a"]}'), nested("plain"), nested("[not a list")
    ({'text': ['a']}, 'plain', '[not a list')
    """
    if hasattr(cell, "tolist"):  # an array, as a Parquet file gives it
        return cell.tolist()
    if not isinstance(cell, str) or len(cell) > _LONGEST_LITERAL or not cell.lstrip().startswith(("[", "{")):
        return cell
    text = _BETWEEN.sub("}, {", _ARRAY.sub(r"\1", cell.strip()))
    if _WITHOUT_COMMAS.fullmatch(text):  # Python would take two texts side by side for one
        text = f"[{', '.join(_ITEM.findall(text))}]"
    for parse in (json.loads, ast.literal_eval):  # pandas writes lists as Python prints them
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell
