"""Columns inside of columns, as JSON and Parquet have them: `data.body`, `answers.text`, `messages.content`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

_MOST_NAMES = 1000
_DEEPEST = 8


@dataclass(frozen=True, kw_only=True)
class ColumnPath:
    """Where a value lies: a column, and the names of what is in it, one inside of the other.

    >>> path = ColumnPath.of("data.body", ["id", "data"])
    >>> path.column, path.inside({"body": "a text"}), path.inside([{"body": "one"}, {"body": "two"}])
    ('data', 'a text', ['one', 'two'])
    """

    column: str
    """The column that the file has."""
    steps: tuple[str, ...] = ()
    """Names inside of it, from the outside."""

    @classmethod
    def of(cls, name: str, columns: Collection[str]) -> ColumnPath:
        """Take a name apart at its dots, unless a column is called so."""
        if name in columns:
            return cls(column=name)
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            if (outer := ".".join(parts[:length])) in columns:
                return cls(column=outer, steps=tuple(parts[length:]))
        return cls(column=name)

    def inside(self, value: object) -> object:
        """Return what lies in a column's value under these names; of a list, that of each element."""
        for depth, step in enumerate(self.steps):
            if isinstance(value, list):
                rest = ColumnPath(column=self.column, steps=self.steps[depth:])
                return [rest.inside(element) for element in value]
            if not isinstance(value, dict):
                return None
            value = value.get(step)
        return value


def note_inner_names(value: object, found: dict[str, None], prefix: str = "") -> None:
    """Add the names inside of a row's values to those found, as paths; beyond a thousand, no more."""
    if isinstance(value, list):
        for element in value[:_DEEPEST]:
            note_inner_names(element, found, prefix)
    if not isinstance(value, dict) or prefix.count(".") >= _DEEPEST or len(found) >= _MOST_NAMES:
        return
    for name, inner in value.items():
        path = f"{prefix}.{name}" if prefix else name
        if prefix:
            found[path] = None
        if isinstance(inner, dict | list):
            note_inner_names(inner, found, path)
