"""Cut a table by time: rows in the order of one of its columns, in slices of about as many, each a file of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from coldfuse.data.opening import open_tables
from coldfuse.data.roles import Role, RoleChoice
from coldfuse.data.tables import FileFormat, Wanted
from coldfuse.durable import write_whole
from coldfuse.errors import UserInputError

Moment = tuple[float, str]
"""When a row is from: a number to sort by, and how the data say it."""

_Row = tuple[Moment, dict[str, object]]


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Rows of one stretch of time."""

    name: str
    """The stretch, as the data say it."""
    path: Path
    """File of its rows, JSON lines."""
    num_rows: int
    """Number of rows."""


def cut_by_time(
    data: str, column: str, num_slices: int, *, folder: Path, file_format: FileFormat | None = None
) -> list[Slice]:
    """Write the rows of a table to files by time, the earliest first.

    Rows of one moment stay together, so slices may be of different sizes.

    Args:
        data: The table.
        column: Column that says when a row is from: numbers, or dates as ISO 8601 has them.
        num_slices: Slices that are wanted.
        folder: Folder to write them to.
        file_format: How a text file is written.

    Raises:
        UserInputError: The table cannot be read, a moment cannot be told, or there are too few of them.
    """
    if num_slices < 2:
        raise UserInputError(f"--slices {num_slices}: expected 2 or more, to train on the first and test on the others")
    rows = sorted(_read(data, column, file_format or FileFormat()), key=lambda row: row[0][0])
    pieces = _pieces(rows, num_slices)
    if len(pieces) < 2:
        raise UserInputError(f"{data}: column {column!r} has one moment alone, so there is nothing later to test on")
    slices = []
    for number, piece in enumerate(pieces):
        first, last = piece[0][0][1], piece[-1][0][1]
        path = folder / f"{number}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False) for _, row in piece)
        write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
        slices.append(Slice(name=first if first == last else f"{first} to {last}", path=path, num_rows=len(piece)))
    return slices


def _read(data: str, column: str, file_format: FileFormat) -> list[_Row]:
    choice = RoleChoice((Role("time", (column.lower(),), what="time"),), {"time": column})
    rows: list[_Row] = []
    for table in open_tables(data, choice, file_format):
        at = table.names.index(table.require(column)) if column in table.names else None
        if at is None:
            raise UserInputError(f"{table.name}: no column {column!r}; {table.columns_said}")
        for place, cells in table.rows(Wanted(columns=table.names)):
            row = {name: _plain(cell) for name, cell in zip(table.names, cells, strict=True) if cell is not None}
            rows.append((_moment(cells[at], f"{table.name}, {table.unit} {place}"), row))
    return rows


def _plain(cell: object) -> object:
    if isinstance(cell, bytes):
        raise UserInputError("--time-column: rows with bytes, such as pictures, cannot be cut by time; give text")
    return cell if isinstance(cell, str | int | float | bool | list | dict) else str(cell)


def _moment(cell: object, where: str) -> Moment:
    """Return when a row is from; dates without a zone are taken as UTC."""
    text = str(cell).strip()
    try:
        number = float(text)
    except ValueError:
        try:
            said = datetime.fromisoformat(text)
            number = (said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise UserInputError(f"{where}: its time is neither a number nor a date such as 2026-11-30")
    return number, text[:80]


def _nearest(places: Sequence[int], wanted: float) -> int:
    return min(places, key=lambda place: abs(place - wanted))


def _pieces(rows: Sequence[_Row], count: int) -> list[Sequence[_Row]]:
    """Cut sorted rows into pieces of about as many, where one moment ends and another begins."""
    changes = [index for index in range(1, len(rows)) if rows[index][0][0] != rows[index - 1][0][0]]
    if not changes:
        return [rows]
    wanted = [number * len(rows) / count for number in range(1, count)]
    cuts = sorted({_nearest(changes, place) for place in wanted})
    return [rows[first:end] for first, end in pairwise([0, *cuts, len(rows)])]
