"""JSON to rows, in the shapes that people have: lines, an array of objects, and what pandas writes by default.

A file is read twice: once for the names, which may differ from row to row, and once for the values of the wanted
columns, so that nothing else is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, cast

from coldfuse.data.lines import encoding_of, read_lines
from coldfuse.data.nested import ColumnPath, note_inner_names
from coldfuse.data.sources import Source
from coldfuse.data.tables import FileFormat, Row, Table, Wanted
from coldfuse.data.words import listing, listing_of_names, look_like_names, quoted
from coldfuse.errors import UserInputError

_LONGEST_LINE_BYTES = 1 << 30
_MOST_AT_ONCE = 2 << 30
_FEW_ROWS = 8
"""Rows below which more names than rows are rather data: `{"a text": "its label", …}`."""
_SPACE = re.compile(r"[ \n\r\t]*")
_EXAMPLE = '{"text": "...", "label": "..."}'
_AS_LINES = "write it as JSON lines (pandas: to_json(orient='records', lines=True))"

Objects = Iterator[tuple[int, object]]
"""Values of JSON with the lines, or the numbers of the rows, that they stand in."""
_LINE_ENDINGS = (".jsonl", ".ndjson")
"""How files are called that have a row a line, even where it is but one."""


def open_json(source: Source, file_format: FileFormat) -> Table:
    """Open a file of JSON as a table.

    Raises:
        UserInputError: It is no JSON, or has a shape in which no rows can be told; the message says where.
    """
    encoding = encoding_of(source, file_format.encoding)
    form = () if encoding == "utf-8" else (encoding.upper(),)

    def lines() -> Objects:
        return _parsed_lines(source, encoding)

    if _has_rows_in_lines(source, encoding):
        return _table(source, lines, unit="line", form=form)
    text = "".join(_bounded(source, encoding))
    if text.lstrip().startswith("["):
        return _table(source, lambda: _elements(source, text), unit="row", form=form)
    values = list(_values(source, text))
    if len(values) != 1:
        return _table(source, lambda: iter(values), unit="line", form=form)
    objects, shape = _unfold(source, values[0][1])
    return _table(source, lambda: iter(list(enumerate(objects, start=1))), unit="row", form=form + shape)


def _table(source: Source, objects: Callable[[], Objects], *, unit: str, form: tuple[str, ...]) -> Table:
    names: dict[str, None] = {}
    inner: dict[str, None] = {}
    num_rows = 0
    for place, found in objects():
        num_rows += 1
        if not isinstance(found, dict):
            what = {list: "a list", str: "a text", type(None): "null"}.get(type(found), f"a {type(found).__name__}")
            raise UserInputError(
                f"{source.name}: {unit} {place} holds {what}, expected one JSON object a row, such as {_EXAMPLE}"
            )
        names |= dict.fromkeys(found)
        note_inner_names(found, inner)

    def rows(wanted: Wanted) -> Iterator[Row]:
        paths = [ColumnPath.of(name, names) for name in wanted.columns]
        for place, found in objects():
            get = cast("dict[str, object]", found).get
            yield place, [path.inside(get(path.column)) for path in paths]

    return Table(
        name=source.name,
        path=source.path,
        names=tuple(names),
        inner=tuple(inner),
        rows=rows,
        unit=unit,
        form=form,
        are_names_doubtful=len(names) > max(num_rows, 1) and num_rows < _FEW_ROWS,
    )


def _has_rows_in_lines(source: Source, encoding: str) -> bool:
    """Say whether the first line is an object of its own, and others follow; or may, as the file's ending says."""
    found = (line for line in read_lines(source, encoding, longest_bytes=_LONGEST_LINE_BYTES) if line.strip())
    first = list(islice(found, 2))
    try:
        enough = 1 if source.ending in _LINE_ENDINGS else 2
        return len(first) >= enough and isinstance(json.loads(first[0]), dict)
    except (ValueError, RecursionError):
        return False


def _parsed_lines(source: Source, encoding: str) -> Objects:
    for number, line in enumerate(read_lines(source, encoding, longest_bytes=_LONGEST_LINE_BYTES), start=1):
        if line.strip():
            try:
                yield number, _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                raise _no_json(source, number, error) from error


def _bounded(source: Source, encoding: str) -> Iterator[str]:
    size = 0
    for line in read_lines(source, encoding, longest_bytes=_MOST_AT_ONCE):
        size += len(line)
        if size > _MOST_AT_ONCE:
            raise UserInputError(f"{source.name}: one JSON value of more than {_MOST_AT_ONCE >> 30} GiB; {_AS_LINES}")
        yield line


def _elements(source: Source, text: str) -> Objects:
    """Yield the elements of an array, one after the other, and what might follow it."""
    at, number = _behind_space(text, text.index("[") + 1), 0
    if text[at : at + 1] == "]":
        at = _behind_space(text, at + 1)
        _require_end(source, text, at)
        return
    while True:
        number += 1
        value, at = _decoded(source, text, at)
        yield number, value
        at = _behind_space(text, at)
        mark, at = text[at : at + 1], _behind_space(text, at + 1)
        if mark == "]":
            _require_end(source, text, at)
            return
        if mark != ",":
            raise _no_json(source, text.count("\n", 0, at) + 1, f"expected , or ] behind row {number}; is it cut off?")


def _values(source: Source, text: str) -> Objects:
    """Yield values that stand one after the other, however they are broken into lines."""
    at = _behind_space(text, 0)
    while at < len(text):
        number = text.count("\n", 0, at) + 1
        value, at = _decoded(source, text, at)
        yield number, value
        at = _behind_space(text, at)


def _decoded(source: Source, text: str, at: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise _no_json(source, error.lineno, error) from error
    except (ValueError, RecursionError) as error:
        raise _no_json(source, text.count("\n", 0, at) + 1, error) from error


def _behind_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _require_end(source: Source, text: str, at: int) -> None:
    if at < len(text):
        raise _no_json(source, text.count("\n", 0, at) + 1, "something follows the array")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{quoted(twice) if look_like_names([twice]) else 'a name'} is said twice in one object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _unfold(source: Source, value: object) -> tuple[list[object], tuple[str, ...]]:
    """Find the rows in one object that holds them all, and say where they were."""
    if not isinstance(value, dict) or not value:
        return [value], ()
    for find in (_split, _lists, _indexed, _nested):
        found = find(source, value)
        if found is not None:
            return found
    return [value], ()


Found = tuple[list[object], tuple[str, ...]] | None


def _split(source: Source, value: Mapping[str, Any]) -> Found:
    """Read pandas' orient='split': names, and lists of values."""
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    for number, row in enumerate(rows, start=1):
        if len(row) != len(names):
            raise UserInputError(f"{source.name}: row {number} has {len(row)} values, expected {len(names)}")
    return [dict(zip(map(str, names), row, strict=True)) for row in rows], ("names and values apart",)


def _lists(source: Source, value: Mapping[str, Any]) -> Found:
    """Read an object of columns, each a list of plain values."""
    if not all(isinstance(column, list) for column in value.values()) or any(
        isinstance(cell, dict) for column in value.values() for cell in column[:1]
    ):
        return None
    lengths = {name: len(column) for name, column in value.items()}
    if len(set(lengths.values())) > 1:
        if look_like_names(list(lengths)):
            said = listing(f"{name} {length}" for name, length in lengths.items())
        else:
            said = f"{min(lengths.values())} to {max(lengths.values())}"
        raise UserInputError(f"{source.name}: expected columns of one length, but they have {said} values")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)], ("by columns",)


def _indexed(source: Source, value: Mapping[str, Any]) -> Found:
    """Read pandas' default, columns of cells by row, and orient='index', rows of cells by column."""
    if not all(isinstance(inner, dict) for inner in value.values()):
        return None
    inside: dict[str, None] = {}
    for inner in value.values():
        inside |= dict.fromkeys(inner)
    are_rows_inside, are_rows_outside = all(map(_is_count, inside)), all(map(_is_count, value))
    if are_rows_inside:
        return [{name: value[name].get(row) for name in value} for row in inside], ("by columns",)
    if are_rows_outside:
        return list(value.values()), ("by rows",)
    raise UserInputError(
        f"{source.name}: an object of objects, in which rows and columns cannot be told apart; {_AS_LINES}"
    )


def _nested(source: Source, value: Mapping[str, Any]) -> Found:
    """Read a list of objects that lies under one of several names."""
    lists = {
        name: inner for name, inner in value.items()
        if isinstance(inner, list) and inner and all(isinstance(row, dict) for row in inner)
    }  # fmt: skip
    if len(lists) > 1:
        raise UserInputError(
            f"{source.name}: holds several lists of rows ({listing_of_names(lists)}); write the one to read as a file "
            "of its own"
        )
    return next((((rows, (f"rows under {name!r}",))) for name, rows in lists.items()), None)


def _is_count(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _no_json(source: Source, line: int, error: object) -> UserInputError:
    reason = "too deeply nested" if isinstance(error, RecursionError) else str(error)
    if isinstance(error, json.JSONDecodeError):
        reason = f"{error.msg}, column {error.colno}"
    return UserInputError(f"{source.name}: line {line} is not JSON ({reason}); expected rows such as {_EXAMPLE}")
