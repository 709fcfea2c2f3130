"""What was read from data files, for people and scripts: nothing is left out or changed without being said here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coldfuse.core.words import plural
from coldfuse.data.words import quoted, shown

_MOST_FILES = 3
_MOST_CLASSES = 8


def files_in_short(files: Sequence[str]) -> str:
    """Return names of files for one line: the first of them, and how many more."""
    rest = len(files) - _MOST_FILES
    return ", ".join(files[:_MOST_FILES]) + (f" and {plural(rest, 'more file')}" if rest > 0 else "")


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What a data set was made of."""

    files: tuple[str, ...]
    """Names of the files, in the order in which they were read."""
    form: tuple[str, ...] = ()
    """What is unusual in how they were read: separator, encoding, where the rows lie."""
    text_column: str
    """Column of the texts."""
    text_pair_column: str | None = None
    """Column of the second texts, in tasks of pairs."""
    label_column: str | None = None
    """Column of the labels, unless only texts were asked for."""
    num_rows: int
    """Rows of the files; blank lines are none."""
    num_without_text: int = 0
    """Rows left out because a text is missing."""
    num_without_label: int = 0
    """Rows left out because they have a text, but no label."""
    classes: Mapping[str, int]
    """Number of examples of each class, in the order of the class numbers."""
    notes: tuple[str, ...] = ()
    """What else people should know: what was replaced, repeated, or could be meant otherwise."""

    @property
    def num_left_out(self) -> int:
        """Rows that are no examples."""
        return self.num_without_text + self.num_without_label

    @property
    def num_examples(self) -> int:
        """Rows that are examples."""
        return self.num_rows - self.num_left_out

    def lines(self) -> list[str]:
        """Return the report in words: one line, and one for each note."""
        form = f" ({', '.join(self.form)})" if self.form else ""
        return [
            f"{files_in_short(self.files)}{form}: {self._columns()}; {self._rows()}; {self._examples()}",
            *(f"note: {note}" for note in self.notes),
        ]

    def as_json(self) -> dict[str, object]:
        """Return the report as values of JSON."""
        columns = {"text": self.text_column, "text_pair": self.text_pair_column, "label": self.label_column}
        left_out = {"no_text": self.num_without_text, "no_label": self.num_without_label}
        return {
            "files": list(self.files), "form": list(self.form), "columns": columns, "rows": self.num_rows,
            "left_out": left_out, "examples": self.num_examples, "classes": dict(self.classes),
            "notes": list(self.notes),
        }  # fmt: skip

    def _columns(self) -> str:
        named = [f"texts from {quoted(self.text_column)}"]
        if self.text_pair_column is not None:
            named.append(f"second texts from {quoted(self.text_pair_column)}")
        if self.label_column is not None:
            named.append(f"labels from {quoted(self.label_column)}")
        return ", ".join(named)

    def _rows(self) -> str:
        missing = "without text" if self.text_pair_column is None else "without one of the texts"
        reasons = [
            f"{count:,} {why}"
            for count, why in ((self.num_without_text, missing), (self.num_without_label, "without label"))
            if count
        ]
        return plural(self.num_rows, "row") + (f", left out {' and '.join(reasons)}" if reasons else ", none left out")

    def _examples(self) -> str:
        examples = plural(self.num_examples, "example")
        if self.label_column is None:
            return examples
        by_size = sorted(self.classes.items(), key=lambda entry: -entry[1])
        named = ", ".join(f"{shown(name)} {count:,}" for name, count in by_size[:_MOST_CLASSES])
        rest = by_size[_MOST_CLASSES:]
        more = f" and {len(rest)} more with {rest[-1][1]:,} to {rest[0][1]:,} each" if rest else ""
        num_classes = f"{len(by_size)} class{'' if len(by_size) == 1 else 'es'}"
        return f"{examples} of {num_classes}: {named}{more}"


@dataclass(frozen=True, kw_only=True)
class RecordsReport:
    """What records were made of."""

    files: tuple[str, ...]
    """Names of the files, in the order in which they were read."""
    form: tuple[str, ...] = ()
    """What is unusual in how they were read."""
    columns: Mapping[str, str]
    """Column of each role that was found."""
    num_rows: int
    """Rows that were read."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Rows left out, by the word for what they lack."""
    notes: tuple[str, ...] = ()
    """What else people should know."""

    @property
    def num_left_out(self) -> int:
        """Rows that are no examples."""
        return sum(self.missing.values())

    @property
    def num_examples(self) -> int:
        """Rows that are examples."""
        return self.num_rows - self.num_left_out

    def lines(self) -> list[str]:
        """Return the report in words: one line, and one for each note."""
        form = f" ({', '.join(self.form)})" if self.form else ""
        columns = ", ".join(f"{role} from {quoted(column)}" for role, column in self.columns.items())
        reasons = " and ".join(f"{count:,} without {what}" for what, count in self.missing.items() if count)
        left_out = f"left out {reasons}" if reasons else "none left out"
        return [
            f"{files_in_short(self.files)}{form}: {columns}; {plural(self.num_rows, 'row')}, {left_out}; "
            f"{plural(self.num_examples, 'example')}",
            *(f"note: {note}" for note in self.notes),
        ]

    def as_json(self) -> dict[str, object]:
        """Return the report as values of JSON."""
        return {
            "files": list(self.files), "form": list(self.form), "columns": dict(self.columns), "rows": self.num_rows,
            "left_out": dict(self.missing), "examples": self.num_examples, "notes": list(self.notes),
        }  # fmt: skip
