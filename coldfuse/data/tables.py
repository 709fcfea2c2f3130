"""A file's rows under the names of its columns, read one after the other and, if need be, more than once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Protocol

from coldfuse.data.words import listing, look_like_names
from coldfuse.errors import UserInputError

_MOST_INNER = 12
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.-]*")

Row = tuple[int, Sequence[object]]
"""Where a row stands, counted from 1, and its values; None for one that it lacks."""


_MOST_DIGITS = 18


def plain_number(value: object) -> object:
    """Return a decimal number, as databases and Parquet have them, as others are; anything else as it is.

    >>> plain_number(Decimal("2.50")), plain_number(Decimal("3.0")), plain_number("3.0")
    (2.5, 3, '3.0')
    """
    if not isinstance(value, Decimal):
        return value
    if not value.is_finite():
        return float("nan")
    is_whole = value.adjusted() < _MOST_DIGITS and value == value.to_integral_value()
    return int(value) if is_whole else float(value)


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """What the user says of how text files are written; None: it is found in the file."""

    separator: str | None = None
    """Character between the cells, or one of the words tab, comma, semicolon, pipe and space."""
    encoding: str | None = None
    """Encoding of text files, such as cp1252."""
    documents: str | None = None
    """What an example of a plain text file is: the whole `file` or a `line`; None: the file, where only texts are
    wanted, and else a table."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which columns are read."""

    columns: tuple[str, ...]
    """All of them, in the order in which rows have their values."""
    label: str | None = None
    """The one of the labels: by its values, rows that a stray quote swallowed are told from a text."""


class Choice(Protocol):
    """What is looked for in tables, for who opens them."""

    @property
    def takes_documents(self) -> bool:
        """Whether texts alone are wanted, so that a plain text file is one."""

    @property
    def takes_tokens(self) -> bool:
        """Whether tokens with their tags are wanted, as CoNLL files have them."""

    @property
    def takes_media(self) -> str | None:
        """Role whose values are files of a kind that folders hold, `image` or `audio`; None: tables are wanted."""

    def is_likely(self, names: Sequence[str]) -> int:
        """Count the names that say that these are the columns that are looked for: the more, the likelier."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file as a table. Rows of CSV and TSV hold strings only; an empty cell is None."""

    name: str
    """Name of the file, for messages."""
    path: Path | None = None
    """Where it lies, if it is a file."""
    names: tuple[str, ...]
    """Names of its columns."""
    inner: tuple[str, ...] = ()
    """Names of columns inside of others, such as `data.body`; as many as were looked for."""
    repeated: frozenset[str] = frozenset()
    """Names that several columns have."""
    rows: Callable[[Wanted], Iterator[Row]]
    """Yields the values of the wanted columns, in their order."""
    close: Callable[[], None] = lambda: None
    """Gives back what the rows come from, once they were read or are not wanted."""
    unit: str = "line"
    """What a row's place counts: lines or rows."""
    form: tuple[str, ...] = ()
    """What is unusual in how it is written."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of integer labels, for columns whose file says them."""
    are_names_doubtful: bool = False
    """Whether what should be names looks like an example: a file without a header. Then no message lists them."""
    notes: list[str] = field(default_factory=list)
    """What people should know besides; complete once the rows were read."""

    @property
    def columns_said(self) -> str:
        """What messages say of the columns."""
        if self.are_names_doubtful or not look_like_names(self.names):
            what = "first line does" if self.unit == "line" else "names do"
            return f"its {what} not look like names of columns ({len(self.names)} of them), but like an example"
        return f"its columns are {listing(self.names)}{self._inner_said}"

    @property
    def _inner_said(self) -> str:
        """What is said of columns inside of others; where there are many, they may be somebody's data."""
        if not self.inner or len(self.inner) > _MOST_INNER or not all(map(_IDENTIFIER.fullmatch, self.inner)):
            return ""
        return f", and inside of them {listing(self.inner)}"

    def require(self, column: str) -> str:
        """Return the column's name; refuse one that is not there, or is there more than once."""
        if column in self.repeated:
            raise UserInputError(
                f"{self.name}: two columns have the same name {column!r}; rename one; {self.columns_said}"
            )
        if column not in self.names and column not in self.inner:
            raise UserInputError(f"{self.name}: no column {column!r}; {self.columns_said}")
        return column
