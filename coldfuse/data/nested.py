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
                if depth_of_lists(value) > _DEEPEST:
                    return None
                rest = ColumnPath(column=self.column, steps=self.steps[depth:])
                return [rest.inside(element) for element in value]
            if not isinstance(value, dict):
                return None
            value = value.get(step)
        return value


def depth_of_lists(value: object) -> int:
    """Return how many lists lie in each other, by their first elements.

    >>> depth_of_lists([["a"]]), depth_of_lists("a")
    (2, 0)
    """
    depth = 0
    while isinstance(value, list):
        depth, value = depth + 1, value[0] if value else None
    return depth


def note_inner_names(value: object, found: dict[str, None], prefix: str = "", depth: int = 0) -> None:
    """Add the names inside of a row's values to those found, as paths; beyond a thousand or eight levels, no more."""
    if depth > _DEEPEST or len(found) >= _MOST_NAMES:
        return
    if isinstance(value, list):
        for element in value[:_DEEPEST]:
            note_inner_names(element, found, prefix, depth + 1)
    elif isinstance(value, dict):
        for name, inner in value.items():
            path = f"{prefix}.{name}" if prefix else name
            if prefix:
                found[path] = None
            if isinstance(inner, dict | list):
                note_inner_names(inner, found, path, depth + 1)
