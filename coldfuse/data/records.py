"""Private data of any kind as records: rows whose values are found by what they are for.

Every task reads its data through `read_records`; what the values mean is the task's own matter.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

from coldfuse.core.words import plural
from coldfuse.data.letters import Letters
from coldfuse.data.opening import KnownClasses, check_limit, open_tables
from coldfuse.data.report import RecordsReport, files_in_short
from coldfuse.data.roles import Role, RoleChoice
from coldfuse.data.sources import explaining
from coldfuse.data.tables import FileFormat, Table
from coldfuse.data.words import listing
from coldfuse.errors import UserInputError

__all__ = ["Records", "RecordsReport", "Role", "read_records"]


class _Rows(Sequence[Mapping[str, object]]):
    """Columns of one length, seen as rows."""

    def __init__(self, columns: Mapping[str, Sequence[object]], length: int) -> None:
        self._columns, self._length = columns, length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Mapping[str, object]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, object]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, object] | Sequence[Mapping[str, object]]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"row {index} of {self._length}")
        return {role: column[index] for role, column in self._columns.items()}


class _Places(Sequence[str]):
    """Where rows stand, in a few bytes each."""

    def __init__(self) -> None:
        self._tables: list[str] = []
        self._table_of, self._numbers = array("L"), array("Q")

    def begin(self, table: str) -> None:
        """Say which table the rows that follow are of."""
        self._tables.append(table)

    def append(self, number: int) -> None:
        """Add a row by its number in the table."""
        self._table_of.append(len(self._tables) - 1)
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return f"{self._tables[self._table_of[index]]} {self._numbers[index]}"


@dataclass(frozen=True, kw_only=True)
class Records:
    """Rows by role, as files have them; nothing of them is in its `repr`.

    >>> records = Records(columns={"text": ["private", "too"]})
    >>> records.rows[1], len(records), len(records.take([0])), records
    ({'text': 'too'}, 2, 1, Records(class_names={}))
    """

    columns: Mapping[str, Sequence[object]] = field(repr=False)
    """Values of each role that the data have, all of one length; None where an optional one has no value."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of integer labels, by role, where the data or a card beside them say them."""
    report: RecordsReport | None = field(default=None, repr=False)
    """What was read to make them, unless they were made otherwise."""
    places: Sequence[str] | None = field(default=None, repr=False)
    """Where each row stands, for errors; nothing of its values."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))

    @property
    def rows(self) -> Sequence[Mapping[str, object]]:
        """The rows, each by role; a role whose column the data lack has no key."""
        return _Rows(self.columns, len(self))

    def place(self, index: int) -> str:
        """Return where a row stands, such as `data.csv, line 3`, for errors."""
        return self.places[index] if self.places is not None else f"row {index + 1}"

    def take(self, indices: Sequence[int]) -> Records:
        """Return the rows at `indices`, in that order."""
        places = self.places
        columns = {role: [column[index] for index in indices] for role, column in self.columns.items()}
        taken = None if places is None else [places[index] for index in indices]
        return replace(self, columns=columns, places=taken, report=None)

    def digest(self) -> str:
        """Return the digest of the values and of the classes' names."""
        digest = hashlib.sha256(json.dumps({role: list(names) for role, names in self.class_names.items()}).encode())
        for row in self.rows:
            digest.update(json.dumps(row, sort_keys=True, default=_plain).encode())
        return digest.hexdigest()


def read_records(
    data: Path | str | Sequence[Path | str],
    roles: Sequence[Role],
    *,
    columns: Mapping[str, str] | None = None,
    file_format: FileFormat | None = None,
    limit: int | None = None,
) -> Records:
    """Read data by role; rows that lack a required value are left out, and the report says how many.

    Args:
        data: One or several files, folders and patterns; `-` is standard input. Several are read as one.
        roles: What is read of each row. Where a `text` alone is read, a plain text file is a document; where
            `tokens` are, a CoNLL file has sentences of `tokens` and `tags`.
        columns: Columns that the user names, by role; a column inside of another by its path, `data.body`.
        file_format: How text files are written; by default it is found.
        limit: Number of examples after which no more are read; None: all.

    Raises:
        UserInputError: The data cannot be read, a column cannot be told, or no row has all that is required.
    """
    choice = RoleChoice(tuple(roles), columns or {})
    check_limit(limit)
    collected = _Collected(choice, limit)
    for table in open_tables(data, choice, file_format or FileFormat(), limit=limit):
        with explaining(table.name):
            collected.add(table)
        if collected.is_full:
            break
    return collected.records()


class _Collected:
    """Rows of one or several tables, column by column."""

    def __init__(self, choice: RoleChoice, limit: int | None) -> None:
        self._choice, self._limit = choice, limit
        self._required = [role for role in choice.roles if role.is_required]
        self._found: dict[str, str] = {}
        self._columns: dict[str, list[object]] = {}
        self._classes: dict[str, KnownClasses] = {}
        self._letters = Letters()
        self._files: list[str] = []
        self._form: list[str] = []
        self._notes: list[str] = []
        self._missing = {role.word: 0 for role in self._required}
        self._places = _Places()
        self._num_rows = 0

    @property
    def is_full(self) -> bool:
        """Whether there are as many as were asked for."""
        return self._limit is not None and len(self._places) >= self._limit

    def add(self, table: Table) -> None:
        """Read a table's rows."""
        if not self._found:
            self._found = self._choice.find(table)
            self._columns = {role: [] for role in self._found}
            self._classes = {role: KnownClasses() for role in self._found}
        for role, column in self._found.items():
            self._classes[role].add(table, table.require(column), is_label=role == "label")
        self._files.append(table.name)
        self._form += [word for word in table.form if word not in self._form]
        self._places.begin(f"{table.name}, {table.unit}")
        for place, cells in table.rows(self._choice.wanted(self._found)):
            self._num_rows += 1
            self._keep(table, place, cells)
            if self.is_full:
                break
        self._notes += table.notes

    def records(self) -> Records:
        """Return what was read."""
        if not self._places:
            lacking = listing(f"{count:,} without {word}" for word, count in self._missing.items() if count)
            raise UserInputError(
                f"{files_in_short(tuple(self._files)) or 'no data'}: no row has all of "
                f"{listing(role.word for role in self._required)} ({plural(self._num_rows, 'row')}, {lacking}); name "
                "the columns with --column ROLE=NAME"
            )
        notes = [*self._notes, *self._letters.notes()]
        if self.is_full:
            notes.append(f"no more than {plural(len(self._places), 'example')} were asked for; the rest was not read")
        report = RecordsReport(
            files=tuple(self._files), form=tuple(self._form), columns=self._found, num_rows=self._num_rows,
            missing={word: count for word, count in self._missing.items() if count}, notes=tuple(notes),
        )  # fmt: skip
        names = {role: tuple(known.names) for role, known in self._classes.items() if known.names}
        return Records(columns=self._columns, class_names=names, report=report, places=self._places)

    def _keep(self, table: Table, place: int, cells: Sequence[object]) -> None:
        row = dict(zip(self._found, cells, strict=True))
        lacking = next((role for role in self._required if is_nothing(row[role.name])), None)
        if lacking is not None:
            self._missing[lacking.word] += 1
            return

        def where() -> str:
            return f"{table.name}, {table.unit} {place}"

        for role, value in row.items():
            self._columns[role].append(None if is_nothing(value) else self._letters.clean_all(value, where))
        self._places.append(place)


def is_nothing(value: object) -> bool:
    """Say whether a cell has no value: nothing, blank, an empty list, or what pandas writes for nothing.

    >>> [is_nothing(value) for value in (None, " ", float("nan"), [], 0, {})]
    [True, True, True, True, False, False]
    """
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip()) or (isinstance(value, list) and not value)


def _plain(value: object) -> object:
    """Return a value that JSON has no form for in one that says the same."""
    if isinstance(value, bytes):
        return {"sha256": hashlib.sha256(value).hexdigest()}
    return str(value)
