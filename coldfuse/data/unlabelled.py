"""Texts without labels, from a file of the same kinds as a task's."""

from __future__ import annotations

from pathlib import Path

from coldfuse.data.dataset import TextDataset
from coldfuse.data.reading import _PAIRS, _choose, _choose_pair, _texts
from coldfuse.data.tables import read_table
from coldfuse.errors import UserInputError

UNLABELLED = "unlabelled"


def read_texts(path: Path, *, text_column: str | None = None, text_pair_column: str | None = None) -> TextDataset:
    """Read texts, or pairs of them, as a data set of the one class `unlabelled`; rows without text are left out."""
    table = read_table(path)
    text = _choose(table, text_column, tuple(_PAIRS), what="text", path=path)
    pair = _choose_pair(table, text_pair_column, text=text, label="", path=path)
    columns = [_texts(table, column, path) for column in (text, pair) if column is not None]
    rows = [tuple(map(str, cells)) for cells in zip(*columns, strict=True) if None not in cells]
    if not rows:
        raise UserInputError(f"{path}: no row has a text in column {text!r}")
    return TextDataset(
        texts=tuple(row[0] for row in rows),
        text_pairs=tuple(row[1] for row in rows) if pair is not None else None,
        labels=(0,) * len(rows),
        label_names=(UNLABELLED,),
        num_dropped=len(columns[0]) - len(rows),
    )
