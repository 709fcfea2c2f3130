"""A file's rows under the names of its columns, read one after the other and, if need be, more than once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coldfuse.data.words import listing
from coldfuse.errors import UserInputError

Row = tuple[int, Sequence[object]]
"""Where a row stands, counted from 1, and its values; None for one that it lacks."""


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """What the user says of how text files are written; None: it is found in the file."""

    separator: str | None = None
    """Character between the cells, or one of the words tab, comma, semicolon, pipe and space."""
    encoding: str | None = None
    """Encoding of text files, such as cp1252."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which columns are read."""

    texts: tuple[str, ...]
    """Columns of texts: one, or two in tasks of pairs."""
    label: str | None
    """Column of the labels."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them, the label's last."""
        return (*self.texts, self.label) if self.label is not None else self.texts


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file as a table. Rows of CSV and TSV hold strings only; an empty cell is None."""

    name: str
    """Name of the file, for messages."""
    names: tuple[str, ...]
    """Names of its columns."""
    repeated: frozenset[str] = frozenset()
    """Names that several columns have."""
    rows: Callable[[Wanted], Iterator[Row]]
    """Yields the values of the wanted columns, in their order."""
    unit: str = "line"
    """What a row's place counts: lines or rows."""
    form: tuple[str, ...] = ()
    """What is unusual in how it is written."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of integer labels, for columns whose file says them."""
    notes: list[str] = field(default_factory=list)
    """What people should know besides; complete once the rows were read."""

    def require(self, column: str) -> str:
        """Return the column's name; refuse one that is not there, or is there more than once."""
        if column in self.repeated:
            raise UserInputError(
                f"{self.name}: two columns have the same name {column!r}; rename one; its columns are "
                f"{listing(self.names)}"
            )
        if column not in self.names:
            raise UserInputError(f"{self.name}: no column {column!r}; its columns are {listing(self.names)}")
        return column
