"""Texts, or pairs of texts, with numbers to be predicted: what tasks read that are no choice between classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from coldfuse.data.records import Records, RecordsReport
from coldfuse.data.roles import Role
from coldfuse.errors import UserInputError

TEXT = Role(
    "text",
    (
        "text", "text1", "sentence1", "premise", "question1", "sentence", "content", "review", "tweet", "comment",
        "message", "document", "body", "title", "query",
    ),
    what="text",
)  # fmt: skip
"""The text, or the first of a pair."""

TEXT_PAIR = Role(
    "text_pair", ("text_pair", "text2", "sentence2", "hypothesis", "question2"), is_required=False, what="second text"
)
"""The second text of a pair."""


@dataclass(frozen=True, kw_only=True)
class TextsWithTargets:
    """Texts with what is to be predicted of each; nothing of them is in its `repr`."""

    texts: tuple[str, ...]
    """Texts, or the first of each pair."""
    text_pairs: tuple[str, ...] | None = None
    """Second text of each pair, in tasks of pairs."""
    targets: tuple[float | tuple[float, ...], ...]
    """Number, or numbers, to predict of each."""
    names: tuple[str, ...] = ()
    """Names of the labels that the numbers of a target stand for; none where a target is one number."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Numbers that the targets 0 and 1 stand for."""
    report: RecordsReport | None = None
    """What was read to make them, unless they were made otherwise."""

    def __repr__(self) -> str:
        """Say how many there are, and nothing of what they are."""
        return f"TextsWithTargets({len(self)} examples)"

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> TextsWithTargets:
        """Return the examples at `indices`, in that order."""
        pairs = self.text_pairs
        return replace(
            self, texts=tuple(self.texts[i] for i in indices), targets=tuple(self.targets[i] for i in indices),
            text_pairs=None if pairs is None else tuple(pairs[i] for i in indices), report=None,
        )  # fmt: skip

    def digest(self) -> str:
        """Return the digest of texts, targets and names."""
        digest = hashlib.sha256(json.dumps([self.names, self.bounds]).encode())
        for row in zip(self.texts, self.text_pairs or [None] * len(self), self.targets, strict=True):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


def texts_of(records: Records) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return the texts of records, and the second texts where there are some.

    Raises `UserInputError` for a cell that holds no text, by its place.
    """
    pairs = records.columns.get(TEXT_PAIR.name)
    if pairs is not None and any(value is None for value in pairs):
        missing = next(index for index, value in enumerate(pairs) if value is None)
        raise UserInputError(
            f"{records.place(missing)}: it has no {TEXT_PAIR.word}, and others have one; give every row both texts"
        )
    first = tuple(_text(records, index, value) for index, value in enumerate(records.columns[TEXT.name]))
    second = None if pairs is None else tuple(_text(records, index, value) for index, value in enumerate(pairs))
    return first, second


def _text(records: Records, index: int, value: Any) -> str:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise UserInputError(f"{records.place(index)}: expected a text, got a {type(value).__name__}")


def require_pairs_like(examples: TextsWithTargets, like: TextsWithTargets) -> None:
    """Refuse to validate single texts on pairs, or the other way."""
    if (examples.text_pairs is None) != (like.text_pairs is None):
        which = "training" if examples.text_pairs is None else "validation"
        raise UserInputError(f"only the {which} data have second texts; name the column with --column text_pair=NAME")
