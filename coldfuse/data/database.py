"""Rows of a query, as a database yields them: nothing is written there, and no credentials are said here."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from coldfuse.data.addresses import QueryAddress
from coldfuse.data.tables import Row, Table, Wanted, plain_number
from coldfuse.data.words import shown
from coldfuse.errors import UserInputError
from coldfuse.extras import requiring

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, CursorResult

_ROWS_AT_ONCE = 1000
_READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}
"""What makes a connection one for reading only; SQLite's is opened so, and others are never committed."""


def open_query(address: QueryAddress) -> Table:
    """Run a query, and return its rows as a table that is read once, a thousand rows at a time.

    Raises:
        UserInputError: The database is out of reach, or does not take the query.
        MissingExtraError: SQLAlchemy is not installed.
    """
    with requiring(f"reading {address.name}", "data", at_once=("sqlalchemy",)), ExitStack() as stack:
        result = _run(address, stack)
        names = [str(name) for name in result.keys()]  # noqa: SIM118 - of a cursor, not of a mapping
        opened = stack.pop_all()

    def rows(wanted: Wanted) -> Iterator[Row]:
        places = [names.index(name) for name in wanted.columns]
        number = 0
        try:
            for number, cells in enumerate(result, start=1):
                yield number, [plain_number(cells[place]) for place in places]
        except _failures() as error:  # what a database says of a row may hold its cells
            raise UserInputError(
                f"{address.name}: reading its rows ended behind row {number} ({_kind(error)}); is every cell what its "
                "column says?"
            ) from None

    return Table(
        name=address.name, names=tuple(dict.fromkeys(names)),
        repeated=frozenset(name for name in names if names.count(name) > 1), rows=rows, unit="row",
        close=opened.close,
    )  # fmt: skip


def _run(address: QueryAddress, stack: ExitStack) -> CursorResult[Any]:
    """Connect and run the query; `stack` closes what was opened."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    url = _url(address)
    with _explaining(address, url):
        creator = {"creator": lambda: _sqlite(url)} if url.get_backend_name() == "sqlite" else {}
        # What is not committed ends with the connection; a reset that fails on a damaged file would log a traceback.
        engine = create_engine(url, poolclass=NullPool, pool_reset_on_return=None, **creator)
        connection: Connection = stack.enter_context(engine.connect())
        if read_only := _READ_ONLY.get(engine.dialect.name):
            connection.exec_driver_sql(read_only)
        streamed = connection.execution_options(
            stream_results=True, max_row_buffer=_ROWS_AT_ONCE, no_parameters=True  # a % stays what it is
        )  # fmt: skip
        result = streamed.exec_driver_sql(address.query)
    if not result.returns_rows:
        raise UserInputError(f"{address.name}: the query yields no rows; expected a SELECT")
    return result


def _url(address: QueryAddress) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(address.url)
    except (ArgumentError, ValueError):
        raise UserInputError(
            f"{address.name}: expected an address such as postgresql+psycopg://USER@HOST/DATABASE?query=SELECT …"
        ) from None


def _sqlite(url: URL) -> sqlite3.Connection:
    """Open a database of SQLite for reading; one that is not there is not made."""
    name = url.database or ""
    place = f"file:{quote(name)}?mode=ro" if name not in ("", ":memory:") else "file::memory:"
    return sqlite3.connect(place, uri=True, check_same_thread=False)


def _failures() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import SQLAlchemyError

    return (SQLAlchemyError, OSError, ValueError, OverflowError)


@contextmanager
def _explaining(address: QueryAddress, url: URL) -> Iterator[None]:
    from sqlalchemy.exc import NoSuchModuleError

    try:
        yield
    except NoSuchModuleError:
        raise UserInputError(
            f"{address.name}: SQLAlchemy knows no database {url.drivername}; install its driver, or export the rows"
        ) from None
    except ModuleNotFoundError as error:
        raise UserInputError(
            f"{address.name}: needs the driver {error.name}, which is not installed; pip install {error.name}, or name "
            "another behind a +, as in postgresql+psycopg://"
        ) from None
    except _failures() as error:
        raise UserInputError(f"{address.name}: {_reason(error, url)}") from None  # a traceback would show the URL


def _reason(error: Exception, url: URL) -> str:
    """Return a database's own words on a query without credentials; on anything else only what kind of error it is."""
    from sqlalchemy.exc import OperationalError, ProgrammingError

    kind = _kind(error)
    if not isinstance(error, OperationalError | ProgrammingError):
        return f"the query failed ({kind})"
    said = str(error.orig).strip().partition("\n")[0]
    for secret in (url.password, url.username):
        if secret:
            said = said.replace(str(secret), "…")
    return f"the query failed ({kind}: {' '.join(map(shown, said.split()[:30]))})"


def _kind(error: Exception) -> str:
    return type(getattr(error, "orig", None) or error).__name__
