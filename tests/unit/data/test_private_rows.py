"""Nothing of a row is in a message, a log or a traceback, however a file is broken."""

from __future__ import annotations

import json
import logging
import random
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from coldfuse.data.reading import read_dataset, read_texts
from coldfuse.data.records import Role, read_records
from coldfuse.data.tables import FileFormat
from coldfuse.errors import UserInputError

CANARY = "Ottilie"
"""In every cell that is no label, and in no name of a column or a file."""
ROWS = [
    (f"{CANARY} Amsel, born 19{n:02}-03-04, has a fever; temperature {n / 7}", f"Ward {n} of Dr. {CANARY}", "ab"[n % 2])
    for n in range(12)
]
NAMES = ("text", "note", "label")
AS_OBJECTS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
NESTED = [{"text": {"body": text, "by": [{"name": note}]}, "label": label} for text, note, label in ROWS]


def delimited(separator: str, *, header: bool = True, quote: bool = True) -> bytes:
    def cell(value: str) -> str:
        return f'"{value}"' if quote else value.replace(separator, " ")

    rows = [NAMES, *ROWS] if header else ROWS
    return "\n".join(separator.join(map(cell, row)) for row in rows).encode()


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(AS_OBJECTS), sink, compression="none")
    return sink.getvalue().to_pybytes()


def stream_bytes() -> bytes:
    table, sink = pa.Table.from_pylist(NESTED), pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def sqlite_bytes(tmp_path: Path) -> bytes:
    connection = sqlite3.connect(tmp_path / "made.db")
    connection.execute("create table notes(text, note, label)")
    connection.executemany("insert into notes values (?, ?, ?)", ROWS)
    connection.commit()
    connection.close()
    return (tmp_path / "made.db").read_bytes()


FILES: dict[str, Callable[[], bytes]] = {
    "a.csv": lambda: delimited(","),
    "semicolons.csv": lambda: delimited(";"),
    "a.tsv": lambda: delimited("\t", quote=False),
    "headless.csv": lambda: delimited(",", header=False),
    "headless.tsv": lambda: delimited("\t", header=False, quote=False),
    "a.jsonl": lambda: "\n".join(map(json.dumps, AS_OBJECTS)).encode(),
    "a.json": lambda: json.dumps(NESTED).encode(),
    "columns.json": lambda: json.dumps({name: [row[name] for row in AS_OBJECTS] for name in NAMES}).encode(),
    "mapping.json": lambda: json.dumps({text: label for text, _, label in ROWS}).encode(),
    "patients.json": lambda: json.dumps({note: [{"a": 1}] for _, note, _ in ROWS}).encode(),
    "twice.json": f'[{{"{ROWS[0][1]}": 1, "{ROWS[0][1]}": 2}}]'.encode,
    "a.parquet": parquet_bytes,
    "a.arrow": stream_bytes,
    "a.conll": lambda: "\n".join(f"{word} O" for text, *_ in ROWS for word in [*text.split(), ""]).encode(),
    "a.txt": lambda: "\n".join(text for text, *_ in ROWS).encode(),
}
"""Private data in every form that is read, and in some that only look so."""


def broken(whole: bytes, seed: int) -> Iterator[bytes]:
    """Yield the file as it is, and in many ways damaged."""
    chance = random.Random(seed)
    yield whole
    yield whole.decode("latin-1").encode("utf-16")
    yield whole + b"\xff\xfe\x00"
    for _ in range(4):
        place = chance.randrange(len(whole))
        yield whole[:place]
        yield whole[:place] + whole[place + 1 :]
        yield whole[:place] + chance.choice([b'"', b"\n", b",", b"\x00", b"{", b"\xe4", b"\t", b"\\"]) + whole[place:]
        yield whole[:place] + bytes([chance.randrange(256)]) + whole[place + 1 :]


def readers(path: Path) -> Iterator[Callable[[], object]]:
    """Yield ways to read it, most of which name the wrong thing."""
    text, label = Role("text", ("text",)), Role("label", ("label",))
    yield lambda: read_dataset(path)
    yield lambda: read_dataset(path, text_column="note", label_column="body")
    yield lambda: read_dataset(path, label_names=("x", "y"))
    yield lambda: read_texts(path, text_column="label.text")
    yield lambda: read_records(path, [text])
    yield lambda: read_records(path, [text, label], columns={"text": "text.body"})
    yield lambda: read_records(path, [Role("tokens", ("tokens",)), Role("tags", ("tags",))])
    yield lambda: read_records(path, [Role("image", ("image",))], columns={"image": "note"})
    yield lambda: read_records(path, [text], file_format=FileFormat(separator="|", encoding="ascii"))


def said_of(read: Callable[[], object], log: pytest.LogCaptureFixture) -> str:
    log.clear()
    try:
        made = read()
    except UserInputError as error:
        frames = [line for line in traceback.format_exception(error) if not line.startswith("  File")]
        return "".join((str(error), *frames, *map(str, log.messages)))
    report = getattr(made, "report", None)
    return "".join((repr(made), *(report.lines() if report else ()), json.dumps(report.as_json()), *log.messages))


@pytest.mark.parametrize("name", FILES)
def test_rows_are_in_no_message_log_or_traceback(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path, num_errors = tmp_path / name, 0
    for content in broken(FILES[name](), seed=len(name)):
        path.write_bytes(content)
        for read in readers(path):
            said = said_of(read, caplog)
            num_errors += said.startswith(str(path))
            assert CANARY not in said, said
    assert num_errors > 40


def test_rows_of_a_damaged_database_are_in_no_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "notes.db"
    for content in broken(sqlite_bytes(tmp_path), seed=0):
        path.write_bytes(content)
        said = said_of(lambda: read_dataset(f"sqlite:///{path}?query=SELECT text, label FROM notes"), caplog)
        assert CANARY not in said, said
        assert not caplog.records
