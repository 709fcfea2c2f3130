"""A column of labels, as files have it, to class numbers with names."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.errors import UserInputError


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A column of labels as class numbers."""

    numbers: tuple[int | None, ...]
    """Class of each row, an index into `names`; None for a row without a label."""
    names: tuple[str, ...]
    """Names of the classes, in the order of their numbers."""


def name_labels(values: Sequence[object], *, known: Sequence[str] | None, where: str) -> Labels:
    """Number the labels by the `known` names; without them every distinct label is a class, in sorted order.

    Integers that are no names count into the known names, and a negative one then means "not labelled", as in Hugging
    Face data sets. `where` names file and column in errors.

    >>> name_labels(["spam", "ham", None], known=None, where="a.csv")
    Labels(numbers=(1, 0, None), names=('ham', 'spam'))
    >>> name_labels(["0", "1", "-1"], known=["negative", "positive"], where="a.csv")
    Labels(numbers=(0, 1, None), names=('negative', 'positive'))
    """
    labels = _unify([_clean(value, where) for value in values], where)
    present = {label for label in labels if label is not None}
    if known is None:
        known = [str(label) for label in sorted(present, key=_sort_key)]
    number = {name: index for index, name in enumerate(known)}
    if not {str(label) for label in present} <= set(known):
        strangers = sorted(str(label) for label in present if not isinstance(label, int) or label >= len(known))
        if strangers:
            raise UserInputError(
                f"{where}: label {strangers[0][:50]!r} is not one of the task's {len(known)} classes; expected "
                f"{_listing(known)}, or their numbers from 0 (the names come from card.json beside the file, from the "
                "file itself or from the training file)"
            )
        number = {str(index): index for index in range(len(known))}
    return Labels(numbers=tuple(number.get(str(label)) for label in labels), names=tuple(known))


def names_on_card(path: Path) -> tuple[str, ...] | None:
    """Return the `label_names` of the `card.json` beside a data file, if there is one."""
    card = path.parent / "card.json"
    if not card.is_file():
        return None
    try:
        names = json.loads(card.read_text(encoding="utf-8-sig"))["label_names"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # a card of another kind
    return tuple(map(str, names)) if isinstance(names, list) else None


def _clean(value: object, where: str) -> str | int | float | None:
    """Return one cell as text or number; None for a cell that says nothing."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case int():
            return value
        case float():
            return None if math.isnan(value) else value
        case str():
            return value.strip() or None
    raise UserInputError(
        f"{where}: expected one label a row, as text or a whole number, but a row holds a {type(value).__name__}; "
        "choose another column with --label-column"
    )


def _unify(labels: Sequence[str | int | float | None], where: str) -> list[str | int | None]:
    """Read numbers as whole numbers where all labels are numbers (also written as text), else take all as text."""
    numbers = [None if label is None else _as_number(label) for label in labels]
    if any(number is None and label is not None for number, label in zip(numbers, labels, strict=True)):
        return [None if label is None else str(label) for label in labels]
    decimals = [number for number in numbers if number is not None and not number.is_integer()]
    if decimals:
        raise UserInputError(
            f"{where}: expected classes, but the labels are decimal numbers; scores cannot be learnt as classes, so "
            "round them to classes first or choose another column with --label-column"
        )
    return [None if number is None else int(number) for number in numbers]


def _as_number(label: str | float) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _sort_key(label: str | int) -> tuple[int, str]:
    """Sort whole numbers by size and text by its characters; a column holds only one of them."""
    return (label, "") if isinstance(label, int) else (0, label)


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
