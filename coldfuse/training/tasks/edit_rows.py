"""The rows of an edit: one fact, or a few, that a model shall say anew, while it says all else as before.

A file of an edit has a row for each thing that is asked of the model: JSON lines, CSV or parquet with the columns

    kind      `edit` (what is changed), `paraphrase` (the same in other words, never trained on), or `keep` (what must
              stay as it is: neighbours of the fact, and anything else)
    prompt    what stands before the answer; for a model that fills gaps `[MASK]` says where the answer goes
    answer    what the model shall say: of a classifier the name of a class
    instead   what it shall not say, one text or several: of an edit the old answer, of what stays the new one

A row with `instead` is right where the answer is likelier than all of these: P[o*] > P[oᶜ], the efficacy, paraphrase
and neighbourhood scores of CounterFact (ROME, arXiv 2202.05262, section 3.3), by the mean log-probability of a token,
as its authors compute it. A row without is right where the model would write just this answer: each of its tokens is
the likeliest one (the edit success of MEND, arXiv 2110.11309, section 5). Both ask of a masked model how it fills the
gap, and of a classifier which class it takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from coldfuse.data.records import Role
from coldfuse.errors import UserInputError
from coldfuse.training.tasks.rows import Rows, as_list, parse_rows, read_cells, said
from coldfuse.training.tasks.task import DataRequest

EditKind = Literal["edit", "paraphrase", "keep"]
KINDS: tuple[EditKind, ...] = ("edit", "paraphrase", "keep")
"""What is asked of an edit: that it takes, that it takes in other words, and that all else stays."""

MAX_ROWS = 100_000
"""Rows of a file at most."""

_MAX_PROMPT, _MAX_ANSWER, _MAX_RIVALS = 20_000, 1_000, 16
_ROLES = (
    Role("kind", ("kind", "type"), is_required=False),
    Role("prompt", ("prompt", "text"), is_required=False),
    Role("answer", ("answer", "label", "target"), is_required=False),
    Role("instead", ("instead",), is_required=False),
)
"""None is required, as rows without a required value would be left out: of an edit no row may be missing."""


@dataclass(frozen=True, kw_only=True)
class EditRow:
    """One thing that is asked of a model."""

    kind: EditKind
    """What it is asked for."""
    prompt: str
    """What stands before the answer, or around it."""
    answer: str
    """What the model shall say."""
    rivals: tuple[str, ...] = ()
    """What it shall not say; none where it shall write just the answer."""


def read_edit(request: DataRequest, *, options: object, needs_edit: bool) -> Rows[EditRow]:
    """Read an edit's file.

    Args:
        request: Which file.
        options: What else decides what is made of a row.
        needs_edit: Whether a row has to be of the kind `edit`.

    Raises:
        UserInputError: A row is none, says the same as another, or there are too many.
    """
    records = read_cells(request, _ROLES)
    if len(records) > MAX_ROWS:
        raise UserInputError(f"{records.place(MAX_ROWS)}: an edit has {MAX_ROWS:,} rows at most")
    rows, _ = parse_rows(records, _Parser())
    if needs_edit and not any(row.kind == "edit" for row in rows):
        raise UserInputError(f"{records.place(0)}: no row has the kind 'edit', so that nothing would be changed")
    return Rows(rows=tuple(rows), options=options, report=said(records.report))


def of_kind(examples: Rows[EditRow], kind: EditKind) -> Rows[EditRow]:
    """Return the rows of a kind, in their order.

    >>> rows = Rows(rows=(EditRow(kind="keep", prompt="1 + 1 =", answer="2"),), options=None)
    >>> len(of_kind(rows, "keep")), len(of_kind(rows, "edit"))
    (1, 0)
    """
    return replace(examples, rows=tuple(row for row in examples.rows if row.kind == kind), report=None)


class _Parser:
    """Makes rows of cells, and refuses one that says the same as another, or the contrary."""

    def __init__(self) -> None:
        self._asked: set[str] = set()

    def __call__(self, cells: Mapping[str, object]) -> Iterator[EditRow]:
        """Yield a row. Raises `ValueError` with what is wrong, never with what the row holds."""
        kind = next((known for known in KINDS if known == cells.get("kind")), None)
        if kind is None:
            raise ValueError(f"the kind is not one of {', '.join(KINDS)}")
        prompt = _text(cells.get("prompt"), "prompt", _MAX_PROMPT)
        answer = _text(cells.get("answer"), "answer", _MAX_ANSWER).strip()
        rivals = tuple(_text(each, "instead", _MAX_ANSWER).strip() for each in _listed(cells.get("instead")))
        if answer in rivals:
            raise ValueError("the answer is among what shall be said instead of it: give the other one there")
        if prompt.strip() in self._asked:
            raise ValueError("its prompt stands above already: ask each once, for an edit or for what is kept")
        self._asked.add(prompt.strip())
        yield EditRow(kind=kind, prompt=prompt, answer=answer, rivals=rivals)


def _text(cell: object, what: str, most: int) -> str:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float) or not str(cell).strip():
        raise ValueError(f"the {what} is {'nothing' if cell is None else type(cell).__name__}, expected text")
    text = str(cell)
    if len(text) > most:
        raise ValueError(f"the {what} has {len(text):,} characters, at most {most:,} are taken")
    return text


def _listed(cell: object) -> Sequence[object]:
    if cell is None:
        return ()
    found = as_list(cell)
    values = [cell] if found is None else found
    if len(values) > _MAX_RIVALS:
        raise ValueError(f"there are {len(values)} answers under instead, at most {_MAX_RIVALS} are taken")
    return values
