"""Which columns hold texts and labels: those the user names, or those with usual names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coldfuse.data.tables import Table, Wanted
from coldfuse.errors import UserInputError

_PAIRS = {
    "text": ("text_pair", "text2"),
    "text1": ("text2",),
    "sentence1": ("sentence2",),
    "premise": ("hypothesis",),
    "question1": ("question2",),
    "question": ("passage", "context", "sentence", "answer"),
    "sentence": ("sentence2",),
    "query": ("passage", "document"),
    **dict.fromkeys(("content", "review", "utterance", "tweet", "comment", "message", "document", "body", "title"), ()),
}
"""Usual names of text columns, the likeliest first, each with the usual names of its partner."""

_LABELS = ("label", "labels", "class", "category", "target", "intent", "sentiment", "emotion", "topic", "stance")


@dataclass(frozen=True, kw_only=True)
class ColumnChoice:
    """What the user says of the columns; None: the usual names decide."""

    text: str | None = None
    """Column of the texts."""
    pair: str | None = None
    """Column of the second texts."""
    label: str | None = None
    """Column of the labels."""
    needs_label: bool = True
    """Whether labels are read at all."""

    def find(self, table: Table) -> Wanted:
        """Find the columns in a table.

        Raises:
            UserInputError: One is not there, or cannot be told.
        """
        text = _choose(table, self.text, tuple(_PAIRS), what="text")
        label = _choose(table, self.label, _LABELS, what="label") if self.needs_label else None
        pair = self._find_pair(table, text, label)
        if text == label:
            raise UserInputError(f"{table.name}: column {text!r} cannot be text and label at once; name two columns")
        texts = (text,) if pair is None else (text, pair)
        return Wanted(columns=texts if label is None else (*texts, label), label=label)

    @property
    def takes_documents(self) -> bool:
        """Never: a table is meant, whatever its name ends in."""
        return False

    @property
    def takes_tokens(self) -> bool:
        """Never: texts are meant."""
        return False

    @property
    def takes_media(self) -> None:
        """Never: texts are meant."""
        return

    def is_likely(self, names: Sequence[str]) -> int:
        """Count the names that say that these are the columns of a task: the more, the likelier."""
        given = {name for name in (self.text, self.pair, self.label) if name is not None}
        return sum(name in given or name.lower() in _PAIRS or name.lower() in _LABELS for name in names)

    def _find_pair(self, table: Table, text: str, label: str | None) -> str | None:
        """Return the column of the second texts, or None for a task of single texts."""
        if self.pair is not None:
            column = table.require(self.pair)
            if column in (text, label):
                raise UserInputError(f"{table.name}: column {column!r} cannot be text, pair and label at once")
            return column
        usual = _PAIRS.get(text.lower(), ())
        found = [name for name in table.names if name.lower() in usual and name not in (text, label)]
        return table.require(found[0]) if found else None


def _choose(table: Table, wanted: str | None, usual: Sequence[str], *, what: str) -> str:
    """Return the column the user named, or the first with a usual name, whatever its case."""
    if wanted is not None:
        return table.require(wanted)
    by_name = {name.strip().lower(): name for name in reversed(table.names)}
    for name in usual:
        if name in by_name:
            return table.require(by_name[name])
    form = f" ({', '.join(table.form)})" if table.form else ""
    header = "; its first line must name the columns" if table.unit == "line" else ""
    if header and len(table.names) == 1:
        header += ", and --separator says what stands between them where that is none of the usual"
    raise UserInputError(
        f"{table.name}{form}: cannot tell which column holds the {what}; name it with --{what}-column; "
        f"{table.columns_said}{header}"
    )
