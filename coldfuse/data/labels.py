"""A column of labels, as files have it, to class numbers with names.

Two labels are one class only if nobody could mean two: they are written alike but for spaces around them, or every
label of the column is a whole number in its usual form, where `1.0` is 1 (pandas writes it so beside missing values).
So `01` and `1`, or `1e1` and `10`, stay two classes, by their names.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.core.words import plural
from coldfuse.data.words import listing, quoted
from coldfuse.errors import UserInputError

_INTEGER = re.compile(r"(-?[1-9][0-9]{0,99}|0)(?:\.0)?")
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_NO_LABEL = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "null", "none"})
"""Words that mean "no label" beside numbers. Beside names they may well be names."""
_CARD_BYTES = 16 << 20

Label = str | int | float | None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A column of labels as class numbers."""

    numbers: tuple[int | None, ...]
    """Class of each row, an index into `names`; None for a row without a label."""
    names: tuple[str, ...]
    """Names of the classes, in the order of their numbers."""
    notes: tuple[str, ...] = ()
    """What could be meant otherwise, for people."""


def name_labels(values: Sequence[object], *, known: Sequence[str] | None, where: str) -> Labels:
    """Number the labels by the `known` names; without them every distinct label is a class, in sorted order.

    Integers that are no names count into the known names, unless those are numbers themselves; a negative one then
    means "not labelled", as in Hugging Face data sets. `where` names file and column in errors.

    >>> name_labels(["spam", "ham", None], known=None, where="a.csv")
    Labels(numbers=(1, 0, None), names=('ham', 'spam'), notes=())
    >>> name_labels(["0", "1", "-1"], known=["negative", "positive"], where="a.csv").numbers
    (0, 1, None)
    >>> name_labels(["01", "1", "1"], known=None, where="a.csv").names
    ('01', '1')
    """
    if known is not None and len(set(known)) != len(known):
        twice = Counter(known).most_common(1)[0][0]
        raise UserInputError(f"{where}: the class {quoted(twice)} is named twice; give every class a name of its own")
    labels = [_clean(value) for value in values]
    counted = Counter(label for label in labels if label is not None)
    meaning, notes = _understand(counted, known, where)
    present = {label for label in meaning.values() if label is not None}
    names = known if known is not None else [str(label) for label in sorted(present, key=_sort_key)]
    number = _number(present, names, where)
    by_label: dict[Label, int | None] = {
        label: None if meant is None else number.get(str(meant)) for label, meant in meaning.items()
    }
    num_negative = sum(
        count for label, count in counted.items() if by_label[label] is None and meaning[label] is not None
    )
    if num_negative:
        notes.append(f"{plural(num_negative, 'negative label')}, which mean none")
    notes += _spaces(values) + _cases(names if known is None else ())
    return Labels(numbers=tuple(by_label.get(label) for label in labels), names=tuple(names), notes=tuple(notes))


def names_on_card(path: Path) -> tuple[str, ...] | None:
    """Return the `label_names` of the `card.json` beside a data file, if there is one."""
    card = path.parent / "card.json"
    try:
        if not card.is_file() or card.stat().st_size > _CARD_BYTES:
            return None
        names = json.loads(card.read_text(encoding="utf-8-sig"))["label_names"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # a card of another kind
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _clean(value: object) -> Label:
    """Return one cell as text or number; None for a cell that says nothing."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return None if math.isnan(value) else value
        case int():
            return value
        case str():
            return value.strip() or None
    return None


def _understand(
    counted: Mapping[str | int | float, int], known: Sequence[str] | None, where: str
) -> tuple[dict[Label, str | int | None], list[str]]:
    """Say what each distinct label means: a name, a whole number, or nothing; and what is to be noted."""
    if known is not None and {str(label) for label in counted} <= set(known):
        return {label: str(label) for label in counted}, []
    words = {label for label in counted if isinstance(label, str) and label.casefold() in _NO_LABEL}
    words -= set(known or ())
    others = [label for label in counted if label not in words]
    if words and not _beside_numbers(others, known):
        others, notes = list(counted), [f"{_quoted(words)} is taken for a class; if it means none, empty those cells"]
        words = set()
    else:
        notes = [f"{plural(counted[word], 'label')} {quoted(word)} beside numbers, which means none" for word in words]
    meaning: dict[Label, str | int | None] = dict.fromkeys(words)
    numbers = {label: _as_integer(label) for label in others}
    if None not in numbers.values():
        return meaning | numbers, notes
    if all(map(_is_number, others)):
        _refuse_decimals(others, where)
        odd = next(label for label, number in numbers.items() if number is None)
        notes.append(f"labels such as {quoted(str(odd))} are no plain numbers, so all are taken as names, as written")
    return meaning | {label: str(label) for label in others}, notes


def _number(present: Collection[str | int], names: Sequence[str], where: str) -> dict[str, int]:
    """Map what labels say to class numbers; refuse a label that is no class."""
    number = {name: index for index, name in enumerate(names)}
    if {str(label) for label in present} <= set(names):
        return number
    by_position = not any(map(_INTEGER.fullmatch, names))
    most = len(names) if by_position else 0
    strangers = sorted(
        str(label) for label in present if str(label) not in number and (not isinstance(label, int) or label >= most)
    )
    if strangers:
        raise UserInputError(
            f"{where}: label {quoted(strangers[0])} is not one of the task's {len(names)} classes; expected "
            f"{listing(names)}{', or their numbers from 0' if by_position else ''} (the names come from card.json "
            "beside the file, from the file itself or from the training file)"
        )
    return {str(index): index for index in range(len(names))} if by_position else number


def _beside_numbers(others: Sequence[str | int | float], known: Sequence[str] | None) -> bool:
    """Say whether the other labels, or else the known classes, are numbers."""
    return all(map(_is_number, others or known or ("a name",)))


def _is_number(label: str | float) -> bool:
    return not isinstance(label, str) or _NUMBER.fullmatch(label) is not None


def _as_integer(label: str | float) -> int | None:
    """Return the whole number that a label is, without rounding; None if it is none in the usual form."""
    if isinstance(label, str):
        found = _INTEGER.fullmatch(label)
        return int(found[1]) if found else None
    if isinstance(label, int):  # JSON has them of any length
        return label if abs(label) < 10**100 else None
    return int(label) if math.isfinite(label) and label == int(label) else None


def _refuse_decimals(numbers: Sequence[str | int | float], where: str) -> None:
    values = [float(str(number).replace("_", "")) for number in numbers]
    if any(math.isfinite(value) and not value.is_integer() for value in values):
        raise UserInputError(
            f"{where}: expected classes, but the labels are decimal numbers; scores cannot be learnt as classes, so "
            "round them to classes first or choose another column with --label-column"
        )


def _spaces(values: Sequence[object]) -> list[str]:
    spaced = {value for value in values if isinstance(value, str) and value != value.strip() and value.strip()}
    plain = {value.strip() for value in spaced} & {value for value in values if isinstance(value, str)}
    return [f"labels that differ only in spaces around them are one class: {_quoted(plain)}"] if plain else []


def _cases(names: Sequence[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    alike = next((group for group in groups.values() if len(group) > 1), None)
    return [f"classes that differ only in upper and lower case stay apart: {_quoted(alike)}"] if alike else []


def _quoted(names: Collection[str]) -> str:
    return listing(quoted(name) for name in sorted(names))


def _sort_key(label: str | int) -> tuple[int, str]:
    """Sort whole numbers by size and text by its characters; a column holds only one of them."""
    return (label, "") if isinstance(label, int) else (0, label)
