"""Parquet and Arrow files to rows, batch by batch; only the wanted columns are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from coldfuse.data.kinds import Kind
from coldfuse.data.nested import ColumnPath
from coldfuse.data.sources import Source
from coldfuse.data.tables import Row, Table, Wanted, plain_number
from coldfuse.data.words import shown
from coldfuse.errors import UserInputError

_BATCH_ROWS = 8192


def open_arrow(source: Source, kind: Kind) -> Table:
    """Open a Parquet file, an Arrow file, or an Arrow stream as `datasets` saves it.

    Raises:
        UserInputError: The file is damaged, or packed by gzip on top, which leaves nothing to seek in.
    """
    if source.is_packed:
        raise UserInputError(f"{source.name}: a packed {kind.value} file; unpack it (it is compressed inside already)")
    with _explaining(source), ExitStack() as stack:
        schema, _ = _opened(source, kind, stack)
        names: list[str] = list(schema.names)  # of a damaged file, they may be no text
    return Table(
        name=source.name,
        path=source.path,
        names=tuple(dict.fromkeys(names)),
        inner=inner_names(schema),
        repeated=frozenset(name for name in names if names.count(name) > 1),
        rows=lambda wanted: _rows(source, kind, wanted),
        unit="row",
        class_names=_declared_class_names(schema.metadata or {}),
    )


def _rows(source: Source, kind: Kind, wanted: Wanted) -> Iterator[Row]:
    number = 0
    with _explaining(source), ExitStack() as stack:
        schema, _ = _opened(source, kind, stack)
        paths = [ColumnPath.of(name, schema.names) for name in wanted.columns]
        _, batches = _opened(source, kind, stack, columns=list(dict.fromkeys(path.column for path in paths)))
        for batch in batches:
            batch.validate(full=True)  # else offsets that lead out of a damaged file are followed, into a crash
            columns = [map(path.inside, batch.column(path.column).to_pylist()) for path in paths]
            for cells in zip(*columns, strict=True):
                number += 1
                yield number, [plain_number(cell) for cell in cells]


def _opened(
    source: Source, kind: Kind, stack: ExitStack, columns: list[str] | None = None
) -> tuple[Any, Iterator[Any]]:
    """Return a file's schema, and its batches as they are asked for."""
    import pyarrow as pa
    from pyarrow import parquet

    file = stack.enter_context(source.open())
    if kind is Kind.PARQUET:
        table = stack.enter_context(parquet.ParquetFile(file))
        return table.schema_arrow, table.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
    is_stream = not source.head().startswith(b"ARROW1")
    if is_stream:
        reader = stack.enter_context(pa.ipc.open_stream(file))
        return reader.schema, iter(reader)
    reader = stack.enter_context(pa.ipc.open_file(file))
    return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))


def inner_names(schema: Any) -> tuple[str, ...]:
    """Return the names inside of columns that are structs, or lists of them."""
    import pyarrow as pa

    found: list[str] = []

    def look(kind: Any, prefix: str) -> None:
        while isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType):
            kind = kind.value_type
        for field in kind if isinstance(kind, pa.StructType) else ():
            found.append(f"{prefix}.{field.name}")
            look(field.type, found[-1])

    for field in schema:
        look(field.type, field.name)
    return tuple(found)


@contextmanager
def _explaining(source: Source) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = shown_line(error)
        raise UserInputError(f"{source.name}: cannot be read: {reason}") from error


def shown_line(error: Exception) -> str:
    """Return the first line of what a library says, without the data that may follow."""
    return " ".join(shown(word) for word in str(error).partition("\n")[0].split()[:30])


def _declared_class_names(metadata: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Find the columns of `ClassLabel`, and of lists of them, that Hugging Face `datasets` notes in a file."""
    try:
        features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            column: tuple(map(str, feature["names"]))
            for column, feature in ((name, _of_elements(declared)) for name, declared in features.items())
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}  # a note of another kind: the labels are still there


def _of_elements(feature: Any) -> Any:
    """Return what a list holds, in the two ways in which `datasets` notes it; anything else as it is."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    return feature["feature"] if isinstance(feature, dict) and isinstance(feature.get("feature"), dict) else feature
