"""The rows of one or several tables, column by column, with what is no text or label refused or replaced."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from coldfuse.core.words import plural
from coldfuse.data.letters import NO_TEXT, Letters
from coldfuse.data.tables import Table, Wanted
from coldfuse.data.words import quoted
from coldfuse.errors import UserInputError

_NUMBER = re.compile(r"[-+]?[0-9]+(?:[.,][0-9]+)?")
_WORDS_FOR_NOTHING = frozenset({"nan", "null", "none", "na", "n/a", "<na>"})


class Collected:
    """The rows that have texts, with their labels as the files have them.

    Args:
        wanted: The columns, which every table must have.
        may_be_single: Whether the task is one of single texts where the column of second texts is empty throughout.
        limit: Number of rows with texts after which no more are read.
    """

    def __init__(self, wanted: Wanted, *, may_be_single: bool, limit: int | None = None) -> None:
        self.wanted = wanted
        self._num_texts = len(wanted.columns) - (wanted.label is not None)
        self._may_be_single = may_be_single
        self._limit = limit
        self.texts: list[str] = []
        self.labels: list[object] = []
        self.files: list[str] = []
        self.form: list[str] = []
        self.num_rows = 0
        self.num_without_text = 0
        self._pairs: list[str | None] = []
        self._notes: list[str] = []
        self._letters = Letters()
        self._num_words = 0
        self._seen_labels: dict[str, str] = {}

    @property
    def is_full(self) -> bool:
        """Whether there are as many rows as were asked for."""
        return self._limit is not None and len(self.texts) >= self._limit

    @property
    def name(self) -> str:
        """The files, in short."""
        return self.files[0] + (f" and {plural(len(self.files) - 1, 'more file')}" if len(self.files) > 1 else "")

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the texts: one, or two in tasks of pairs."""
        return self.wanted.columns[: self._num_texts]

    @property
    def pairs(self) -> list[str] | None:
        """Second texts, in tasks of pairs."""
        return [str(pair) for pair in self._pairs] if self._num_texts > 1 else None

    def add(self, table: Table) -> None:
        """Read a table's rows."""
        for column in self.wanted.columns:
            table.require(column)
        self.files.append(table.name)
        self.form += [word for word in table.form if word not in self.form]
        for place, cells in table.rows(self.wanted):
            self.num_rows += 1
            texts = [self._text(table, place, column, cells[n]) for n, column in enumerate(self.text_columns)]
            if texts[0] is None:
                self.num_without_text += 1
                continue
            self.texts.append(texts[0])
            self._pairs += texts[1:]
            self.labels.append(self._label(table, place, cells[-1]) if self.wanted.label is not None else None)
            if self.is_full:
                break
        self._notes += table.notes

    def finish(self) -> None:
        """Leave out the rows without a second text, once all tables were added."""
        if None not in self._pairs:
            return
        if self._may_be_single and not any(self._pairs):
            self._num_texts = 1
            return
        kept = [row for row, pair in enumerate(self._pairs) if pair is not None]
        self.num_without_text += len(self._pairs) - len(kept)
        self.texts = [self.texts[row] for row in kept]
        self.labels = [self.labels[row] for row in kept]
        self._pairs = [self._pairs[row] for row in kept]

    def notes(self) -> list[str]:
        """Say what is noteworthy of the texts."""
        notes = [*self._notes, *self._letters.notes()]
        if self.texts and all(_NUMBER.fullmatch(text.strip()) for text in self.texts):
            notes.append(f"every text is a number; is {quoted(self.text_columns[0])} the column of the texts?")
        if self.is_full:
            notes.append(f"no more than {plural(len(self.texts), 'row')} were asked for; the rest was not read")
        if self._num_words:
            notes.append(f"{plural(self._num_words, 'text')} of only a word like nan or None, kept as text")
        return notes

    def _text(self, table: Table, place: int, column: str, value: object) -> str | None:
        """Return a text; None where a row has nothing to read."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if not isinstance(value, str):
            raise UserInputError(
                f"{table.name}: {table.unit} {place}: column {column!r} holds {type(value).__name__} instead of text; "
                f"name another with --text-column or --text-pair-column; {table.columns_said}"
            )
        if not value.strip():
            return None
        value = self._letters.clean(value, lambda: f"{table.name}, {table.unit} {place}")
        if len(value) < 5 and value.strip().lower() in _WORDS_FOR_NOTHING:
            self._num_words += 1
        return value

    def _label(self, table: Table, place: int, value: object) -> object:
        """Return a label as the file has it; refuse what is none."""
        if isinstance(value, str):
            if value in self._seen_labels:
                return self._seen_labels[value]  # the same object: millions of rows have a few labels
            if NO_TEXT.search(value):
                raise UserInputError(
                    f"{table.name}: {table.unit} {place}: the label {quoted(value)} holds a character that is none"
                )
            return self._seen_labels.setdefault(value, value)
        if value is None or isinstance(value, bool | int | float):
            return value
        raise UserInputError(
            f"{table.name}: {table.unit} {place}: column {self.wanted.label!r} holds {_kind(value)}, expected one "
            "label a row, as text or a whole number; choose another column with --label-column"
        )


def _kind(value: object) -> str:
    return "a list" if isinstance(value, Sequence) and not isinstance(value, bytes) else f"a {type(value).__name__}"
