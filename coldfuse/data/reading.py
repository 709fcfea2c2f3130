"""A file to a data set, with its columns and classes found by themselves.

People bring files as they are. What can be understood is; what cannot is refused in one line that lists the columns and
names the option to use, because a wrong guess would train on the wrong thing and nobody would notice.
"""

from collections.abc import Sequence
from pathlib import Path

from coldfuse.data.dataset import TextDataset
from coldfuse.data.labels import Labels, name_labels, names_on_card
from coldfuse.data.tables import Table, read_table
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
_FEWEST_ROWS = 8


def read_dataset(
    path: Path,
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    label_names: Sequence[str] | None = None,
) -> TextDataset:
    """Read a classification task from CSV, TSV, JSON lines or Parquet; rows without text or label are left out.

    Args:
        path: The file; its ending says its kind.
        text_column: The texts' column; by default the first with a usual name.
        text_pair_column: The second texts' column, in tasks of pairs; by default the usual partner of the first.
        label_column: The classes' column; by default the first with a usual name.
        label_names: The classes' names, to read a second file (validation, test) as the first was. By default a
            `card.json` beside the file names them (`label_names`), then the file itself, then the labels in it.

    Raises:
        UserInputError: The file cannot be read, a column cannot be told, or no classifier can be trained on it.
    """
    table = read_table(path)
    text = _choose(table, text_column, tuple(_PAIRS), what="text", path=path)
    label = _choose(table, label_column, _LABELS, what="label", path=path)
    pair = _choose_pair(table, text_pair_column, text=text, label=label, path=path)
    known = label_names or names_on_card(path) or table.class_names.get(label)
    labels = name_labels(table.columns[label], known=known, where=f"{path}, column {label!r}")
    dataset = _assemble(table, path, text=text, pair=pair, labels=labels)
    _check_task(dataset, path=path, label=label, is_first_file=label_names is None)
    return dataset


def read_texts(path: Path, *, text_column: str | None = None, text_pair_column: str | None = None) -> TextDataset:
    """Read texts, or pairs of them, as a data set of the one class `unlabelled`; see `read_dataset`."""
    table = read_table(path)
    text = _choose(table, text_column, tuple(_PAIRS), what="text", path=path)
    pair = _choose_pair(table, text_pair_column, text=text, label="", path=path)
    labels = Labels(numbers=(0,) * len(table.columns[text]), names=("unlabelled",))
    dataset = _assemble(table, path, text=text, pair=pair, labels=labels)
    if not len(dataset):
        raise UserInputError(f"{path}: no row has a text in column {text!r}")
    return dataset


def _assemble(table: Table, path: Path, *, text: str, pair: str | None, labels: Labels) -> TextDataset:
    """Keep the rows that have everything."""
    columns = [_texts(table, column, path) for column in (text, pair) if column is not None]
    rows = [
        (*map(str, cells), number)
        for *cells, number in zip(*columns, labels.numbers, strict=True)
        if number is not None and None not in cells
    ]
    return TextDataset(
        texts=tuple(row[0] for row in rows),
        text_pairs=tuple(row[1] for row in rows) if pair is not None else None,
        labels=tuple(row[-1] for row in rows),
        label_names=labels.names,
        num_dropped=len(labels.numbers) - len(rows),
    )


def _choose(table: Table, wanted: str | None, usual: Sequence[str], *, what: str, path: Path) -> str:
    """Return the column the user named, or the first with a usual name, whatever its case."""
    columns = ", ".join(table.columns) or "none"
    if wanted is not None:
        if wanted not in table.columns:
            raise UserInputError(f"{path}: no column {wanted!r}; its columns are {columns}")
        return wanted
    by_name = {name.strip().lower(): name for name in reversed(list(table.columns))}
    for name in usual:
        if name in by_name:
            return by_name[name]
    raise UserInputError(
        f"{path}: cannot tell which column holds the {what}; name it with --{what}-column; its columns are {columns}"
    )


def _choose_pair(table: Table, wanted: str | None, *, text: str, label: str, path: Path) -> str | None:
    """Return the column of the second texts, or None for a task of single texts."""
    usual = _PAIRS.get(text.strip().lower(), ())
    found = [name for name in table.columns if name.strip().lower() in usual and name not in (text, label)]
    if wanted is not None:
        column = _choose(table, wanted, (), what="text-pair", path=path)
        if column in (text, label):
            raise UserInputError(f"{path}: column {column!r} cannot be text, pair and label at once")
        return column
    return next((name for name in found if any(value is not None for value in table.columns[name])), None)


def _texts(table: Table, column: str, path: Path) -> list[str | None]:
    """Return a column of texts; None where a row has nothing to read."""
    values = table.columns[column]
    odd = next((value for value in values if value is not None and not isinstance(value, str)), None)
    if odd is not None:
        raise UserInputError(
            f"{path}: column {column!r} holds {type(odd).__name__} instead of text; name another with --text-column or "
            f"--text-pair-column; its columns are {', '.join(table.columns)}"
        )
    return [value if isinstance(value, str) and value.strip() else None for value in values]


def _check_task(dataset: TextDataset, *, path: Path, label: str, is_first_file: bool) -> None:
    """Refuse what no classifier can be trained on."""
    num_rows, num_present, num_dropped = len(dataset), len(set(dataset.labels)), dataset.num_dropped
    fewest = _FEWEST_ROWS if is_first_file else 1
    if num_rows < fewest:
        raise UserInputError(
            f"{path}: {num_rows} rows with text and label ({num_dropped} more lack one of them), expected {fewest} or "
            "more"
        )
    if is_first_file and num_present < 2:
        raise UserInputError(
            f"{path}: every row has the label {dataset.label_names[dataset.labels[0]]!r}, expected two classes or "
            "more; name another column with --label-column"
        )
    if is_first_file and num_present * 2 > num_rows:
        raise UserInputError(
            f"{path}: column {label!r} has {num_present} different labels in {num_rows} rows, which looks like free "
            "text or numbers of rows; name the classes' column with --label-column"
        )
