"""The columns of a CSV, TSV, JSON-lines or Parquet file, as plain lists."""

import gzip
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coldfuse.errors import UserInputError

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".json", ".ndjson")
_PARQUET = (".parquet", ".pq")
_EXAMPLE = '{"text": "...", "label": "..."}'


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file's columns by name, and the class names that it declares itself."""

    columns: Mapping[str, Sequence[object]]
    """Values of each column; None where a row has none. CSV and TSV hold strings only."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of integer labels, for columns whose file says them (Parquet written by Hugging Face `datasets`)."""


def read_table(path: Path) -> Table:
    """Read a table by the ending of its name; CSV, TSV and JSON lines may be gzipped (`.csv.gz`)."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
    if not path.is_file():
        raise UserInputError(f"{path}: no such file")
    if kind in _PARQUET:
        return _read_parquet(path)
    if kind in _SEPARATORS:
        return _read_csv(path, separator=_SEPARATORS[kind])
    if kind in _JSON:
        return _read_json(path)
    known = ", ".join((*_SEPARATORS, *_JSON, *_PARQUET))
    raise UserInputError(f"{path}: expected a file that ends in one of {known} (.gz behind the text formats)")


def _read_csv(path: Path, *, separator: str) -> Table:
    """Read every column as strings: a guessed type would turn the text "007" or the label "no" into something else."""
    import pyarrow as pa
    from pyarrow import csv

    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    try:
        with csv.open_csv(path, parse_options=parse) as reader:
            names = reader.schema.names
        if len(set(names)) != len(names):
            raise UserInputError(f"{path}: two columns have the same name; the header is {', '.join(names)}")
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        )
        table = csv.read_csv(path, parse_options=parse, convert_options=convert)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error
    return Table(columns={name: table.column(name).to_pylist() for name in names})


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    return Table(
        columns={name: table.column(name).to_pylist() for name in table.column_names},
        class_names=_declared_class_names(table.schema.metadata or {}),
    )


def _declared_class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Find the `ClassLabel` columns that Hugging Face `datasets` notes in a Parquet file."""
    try:
        features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # a note of another kind: the labels are still there


def _read_json(path: Path) -> Table:
    """Read JSON lines, or one JSON array of objects; a key that a row lacks is None there."""
    try:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read().decode("utf-8-sig")
        rows = json.loads(content) if content.lstrip().startswith("[") else _parse_lines(path, content)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not all(isinstance(row, dict) for row in rows):
        raise UserInputError(f"{path}: expected one JSON object a line, such as {_EXAMPLE}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table(columns={name: [row.get(name) for row in rows] for name in names})


def _parse_lines(path: Path, content: str) -> list[Any]:
    rows = []
    for number, line in enumerate(content.split("\n"), start=1):  # JSON strings may hold other line separators
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserInputError(f"{path}: line {number} is not JSON ({error})") from error
    return rows


def _unreadable(path: Path, error: Exception) -> UserInputError:
    """Say what is wrong without the row itself, which pyarrow appends: it is private data."""
    first_line = str(error).partition("\n")[0]
    reason = re.sub(r"(Expected \d+ columns, got \d+).*", r"\1", first_line)
    if isinstance(error, UnicodeDecodeError) or "UTF8" in reason:
        reason = "it is not UTF-8; save it as UTF-8"
    return UserInputError(f"{path}: cannot be read: {reason}")
