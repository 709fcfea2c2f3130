"""A query by URL: rows of SQLite, and nothing written or said that should not be."""

import sqlite3
import traceback

import pytest

from coldfuse import extras
from coldfuse.data.addresses import address_of, place_of
from coldfuse.data.reading import read_dataset
from coldfuse.data.records import Role, read_records
from coldfuse.errors import MissingExtraError, UserInputError

ROLES = (Role("text", ("text",)), Role("label", ("label",), is_required=False))
SECRET = "p?w:x/y"


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "my notes.db"
    connection = sqlite3.connect(path)
    connection.execute("create table notes(text, label, raw)")
    rows = [(f"100% of note {n}", ("good", "bad")[n % 2], b"\xff") for n in range(2500)]
    connection.executemany("insert into notes values (?, ?, ?)", rows)
    connection.execute("insert into notes values (cast(x'43414e415259ff' as text), 'odd', x'')")
    connection.commit()
    connection.close()
    return path


def url(path, query):
    return f"sqlite:///{path}?query={query}"


def test_rows_of_a_query_are_examples(notes):
    query = "SELECT text, label FROM notes WHERE text LIKE '100% of note 1%' AND label <> ':x' AND label <> 'odd'"
    records = read_records(url(notes, query), ROLES)
    assert (len(records), records.rows[0]) == (1111, {"text": "100% of note 1", "label": "bad"})
    assert str(notes) in records.report.files[0]
    assert "SELECT" not in "".join(records.report.lines())
    assert len(read_dataset(url(notes, query))) == 1111
    by_percent = url(notes, "SELECT%20text%20FROM%20notes%20LIMIT%203")
    assert len(read_records(by_percent, ROLES)) == 3
    assert len(read_records(url(notes, "SELECT text, label FROM notes"), ROLES, limit=5)) == 5


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("DELETE FROM notes", "attempt to write a readonly database"),
        ("SELECT body FROM notes", "no such column: body"),
        ("SELECT 1; DROP TABLE notes", "one statement at a time"),
        ("PRAGMA user_version = 3", "readonly"),
        ("", "expected a query at its end"),
        ("SELECT text AS a, label AS b FROM notes", "cannot tell which column holds the text"),
        ("SELECT text, text FROM notes", "two columns have the same name"),
    ],
)
def test_what_is_no_query_for_rows_is_refused_and_changes_nothing(notes, query, says):
    before = notes.read_bytes()
    with pytest.raises(UserInputError, match=says) as caught:
        read_records(url(notes, query), ROLES)
    assert len(str(caught.value).splitlines()) == 1
    assert notes.read_bytes() == before


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(UserInputError, match="unable to open database file"):
        read_records(url(tmp_path / "gone.db", "SELECT 1 AS text"), ROLES)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_cannot_be_decoded_is_not_said(notes):
    with pytest.raises(UserInputError, match="ended behind row 2500") as caught:
        read_records(url(notes, "SELECT text FROM notes"), ROLES)
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql+none://amelie:{SECRET}@host:1/db?sslpassword={SECRET}&query=SELECT 1",
        f"oracle://amelie:{SECRET}@[::1]:1/db?query=SELECT%201",
        f"mysql://amelie:{SECRET}@host:port/db?query=SELECT 1",
        f"mysql://amelie:{SECRET}@host/db",
        f"duckdb://amelie:@{SECRET}@host/db?query=SELECT 1",
        f"https://amelie:{SECRET}@host/data.csv?token={SECRET}",
    ],
)
def test_credentials_are_in_no_message_and_no_traceback(address):
    with pytest.raises((UserInputError, MissingExtraError)) as caught:
        read_records(address, ROLES)
    said = "".join(traceback.format_exception(caught.value, chain=True))
    frames = [line for line in said.splitlines() if "address" not in line and "read_records" not in line]
    assert not [line for line in frames if SECRET in line or "amelie" in line]
    assert SECRET not in repr(address_of(address)) if "query" in address else True


def test_a_place_says_what_is_read_and_nothing_secret():
    address = f"postgresql://amelie:{SECRET}@host/db?sslmode=require&query=SELECT a FROM b"
    assert place_of(address) == "postgresql://host/db?query=SELECT a FROM b"
    assert place_of("hf://org/name/small@main:train") == "hf://org/name/small@main:train"
    assert place_of("a.csv").endswith("/a.csv")


@pytest.mark.parametrize(
    ("data", "library"),
    [("sqlite:///a.db?query=SELECT 1", "sqlalchemy"), ("hf://org/name:train", "datasets")],
)
def test_who_lacks_a_library_is_told_what_to_install(monkeypatch, data, library):
    monkeypatch.setattr(extras, "_is_installed", lambda name: name != library)
    with pytest.raises(
        MissingExtraError, match=rf"needs {library}, which is not installed: pip install 'coldfuse\[data\]'"
    ):
        read_records(data, ROLES)
