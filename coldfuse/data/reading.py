"""Files to a data set, with columns and classes found by themselves.

People bring files as they are. What can be understood is; what cannot is refused in one line that lists the columns and
names the option to use, because a wrong guess would train on the wrong thing and nobody would notice. What was left out
or changed on the way stands in the data set's report.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from coldfuse.core.words import plural
from coldfuse.data.collecting import Collected
from coldfuse.data.columns import ColumnChoice
from coldfuse.data.dataset import TextDataset
from coldfuse.data.labels import Labels, name_labels
from coldfuse.data.opening import KnownClasses, check_limit, open_tables
from coldfuse.data.report import DataReport
from coldfuse.data.sources import explaining
from coldfuse.data.tables import FileFormat
from coldfuse.data.words import quoted
from coldfuse.errors import UserInputError

_FEWEST_ROWS = 8


def read_dataset(  # noqa: PLR0913 - one for each thing that a user may say
    data: Path | str | Sequence[Path | str],
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    label_names: Sequence[str] | None = None,
    file_format: FileFormat | None = None,
    limit: int | None = None,
) -> TextDataset:
    """Read a classification task from CSV, TSV, JSON, Parquet or Arrow; rows without text or label are left out.

    Args:
        data: One or several files and folders; `-` is standard input. Several are read as one, in their order.
        text_column: The texts' column; by default the first with a usual name.
        text_pair_column: The second texts' column, in tasks of pairs; by default the usual partner of the first.
        label_column: The classes' column; by default the first with a usual name.
        label_names: The classes' names, to read a second file (validation, test) as the first was. By default a
            `card.json` beside the file names them (`label_names`), then the file itself, then the labels in it.
        file_format: Separator and encoding of text files; by default they are found.
        limit: Number of rows with texts after which no more are read; None: all.

    Returns:
        The data set; its `report` says what was read, what was left out and why.

    Raises:
        UserInputError: A file cannot be read, a column cannot be told, or no classifier can be trained on it.
    """
    choice = ColumnChoice(text=text_column, pair=text_pair_column, label=label_column)
    found, known = _collect(data, choice, file_format or FileFormat(), limit)
    where = f"{found.name}, column {found.wanted.label!r}"
    labels = name_labels(found.labels, known=label_names or known, where=where)
    dataset = _assemble(found, labels)
    _check_task(dataset, where=found.name, label=str(found.wanted.label), is_first_file=label_names is None)
    return dataset


def read_texts(
    data: Path | str | Sequence[Path | str],
    *,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    file_format: FileFormat | None = None,
    limit: int | None = None,
) -> TextDataset:
    """Read texts, or pairs of them, as a data set of the one class `unlabelled`; see `read_dataset`."""
    choice = ColumnChoice(text=text_column, pair=text_pair_column, needs_label=False)
    found, _ = _collect(data, choice, file_format or FileFormat(), limit)
    dataset = _assemble(found, Labels(numbers=(0,) * len(found.texts), names=("unlabelled",)))
    if not len(dataset):
        raise UserInputError(f"{found.name}: no row has a text in column {found.text_columns[0]!r}")
    return dataset


def _collect(
    data: Path | str | Sequence[Path | str], choice: ColumnChoice, file_format: FileFormat, limit: int | None
) -> tuple[Collected, Sequence[str] | None]:
    """Read the wanted columns of all files, and the names of the classes as a card or a file says them."""
    check_limit(limit)
    collected: Collected | None = None
    known = KnownClasses()
    for table in open_tables(data, choice, file_format, limit=limit):
        with explaining(table.name):
            if collected is None:
                collected = Collected(choice.find(table), may_be_single=choice.pair is None, limit=limit)
            known.add(table, collected.wanted.label)
            collected.add(table)
        if collected.is_full:
            break
    if collected is None:
        raise UserInputError("no data: expected a file, a folder or -")
    collected.finish()
    return collected, known.names


def _assemble(found: Collected, labels: Labels) -> TextDataset:
    """Keep the rows that have everything, and say what became of the others."""
    pairs = found.pairs
    kept = [row for row, number in enumerate(labels.numbers) if number is not None]
    numbers = [number for number in labels.numbers if number is not None]
    counted = Counter(numbers)
    classes = {name: counted[number] for number, name in enumerate(labels.names)}
    texts = tuple(found.texts[row] for row in kept)
    second = None if pairs is None else tuple(pairs[row] for row in kept)
    columns = found.text_columns
    report = DataReport(
        files=tuple(found.files), form=tuple(found.form), text_column=columns[0],
        text_pair_column=columns[1] if pairs is not None else None, label_column=found.wanted.label,
        num_rows=found.num_rows, num_without_text=found.num_without_text,
        num_without_label=len(labels.numbers) - len(kept), classes=classes,
        notes=(*found.notes(), *labels.notes, *_repeated(texts, second)),
    )  # fmt: skip
    return TextDataset(texts=texts, text_pairs=second, labels=tuple(numbers), label_names=labels.names, report=report)


def _repeated(texts: Sequence[str], pairs: Sequence[str] | None) -> list[str]:
    distinct = len(set(texts) if pairs is None else set(zip(texts, pairs, strict=True)))
    again = len(texts) - distinct
    return [f"{plural(again, 'example')} with a text that came before"] if again else []


def _check_task(dataset: TextDataset, *, where: str, label: str, is_first_file: bool) -> None:
    """Refuse what no classifier can be trained on."""
    num_rows, num_present = len(dataset), len(set(dataset.labels))
    num_left_out = dataset.num_dropped
    fewest = _FEWEST_ROWS if is_first_file else 1
    if num_rows < fewest:
        raise UserInputError(
            f"{where}: {plural(num_rows, 'row')} with text and label ({num_left_out} more lack one of them), "
            f"expected {fewest} or more"
        )
    if is_first_file and num_present < 2:
        lacking = f" ({num_left_out} more rows lack text or label)" if num_left_out else ""
        raise UserInputError(
            f"{where}: every row has the label {quoted(dataset.label_names[dataset.labels[0]])}{lacking}, expected "
            "two classes or more; name another column with --label-column"
        )
    if is_first_file and num_present * 2 > num_rows:
        raise UserInputError(
            f"{where}: column {label!r} has {num_present} different labels in {num_rows} rows, which looks like free "
            "text or numbers of rows; name the classes' column with --label-column"
        )
