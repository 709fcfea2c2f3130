"""Addresses of data that are no files: data sets of the Hub, and queries of databases."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from coldfuse.data.words import printable
from coldfuse.errors import UserInputError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9_.-]+(?:\+[A-Za-z0-9_.-]+)?):/")
"""Of two letters at least: one alone is a drive."""
_DATABASES = frozenset({
    "bigquery", "clickhouse", "cockroachdb", "databricks", "duckdb", "mariadb", "mssql", "mysql", "oracle", "postgres",
    "postgresql", "redshift", "snowflake", "sqlite", "trino",
})  # fmt: skip
_BEFORE_OPTIONS = re.compile(r"([^:/?]+://)(?:[^:/]*(?::[^@]*)?@)?([^?]*)")
"""As SQLAlchemy takes an address apart: a password may hold anything but an @."""
_QUERY = re.compile(r"[?&]query=")
_EXAMPLE = "as in 'sqlite:///notes.db?query=SELECT text, label FROM notes'"
_HUB = re.compile(
    r"hf://(?:datasets/)?(?P<id>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.+-]+))?(?:@(?P<revision>[\w./-]+))?"
    r"(?::(?P<split>[\w.-]+))?"
)


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """A data set of the Hugging Face Hub: `hf://ORG/NAME[/CONFIG][@REVISION][:SPLIT]`."""

    name: str
    """How it was written, for messages."""
    id: str
    """ORG/NAME."""
    config: str | None = None
    """Which of its subsets; needed where it has several."""
    revision: str | None = None
    """Branch, tag or commit; the main branch by default."""
    split: str | None = None
    """Which of its parts; needed where it has several."""


@dataclass(frozen=True, kw_only=True)
class QueryAddress:
    """A query of a database: an URL of SQLAlchemy with `?query=SELECT …` at its end."""

    name: str
    """The database for messages: neither user nor password, options or query."""
    url: str = field(repr=False)
    """The URL without the query."""
    query: str = field(repr=False)
    """The query, as it was written."""


Address = HubAddress | QueryAddress


def address_of(named: str) -> Address | None:
    """Return the address that a user has written; None for what is a file.

    >>> address_of("hf://org/name:train")
    HubAddress(name='hf://org/name:train', id='org/name', config=None, revision=None, split='train')
    >>> address_of("postgresql://me:secret@host:5432/db?sslmode=require&query=SELECT text FROM notes")
    QueryAddress(name='postgresql://host:5432/db')

    Raises:
        UserInputError: It is an address of another kind, or not written as one is.
    """
    scheme = _SCHEME.match(named)
    if scheme is None:
        return None
    kind = scheme[1].lower()
    if kind == "hf":
        return _hub_address(named)
    if kind.partition("+")[0] in _DATABASES:
        return _query_address(named)
    raise UserInputError(
        f"{_without_user(named)}: is an address ({scheme[1]}), and data are read from files, from the Hub "
        "(hf://ORG/NAME) or from a database (sqlite:///FILE?query=SELECT …); download it first"
    )


def place_of(named: str) -> str:
    """Return where data lie, as long as they lie there, without what may change or is secret: user and password.

    >>> place_of("postgresql://me:secret@host/db?query=SELECT 1")
    'postgresql://host/db?query=SELECT 1'
    """
    found = address_of(named)
    if isinstance(found, QueryAddress):
        return f"{found.name}?query={found.query}"
    return found.name if found is not None else str(Path(named).absolute())


def _hub_address(named: str) -> HubAddress:
    found = _HUB.fullmatch(named)
    if found is None:
        raise UserInputError(
            f"{printable(named)}: expected hf://ORG/NAME, or hf://ORG/NAME/CONFIG@REVISION:SPLIT with what is needed"
        )
    return HubAddress(name=named, **found.groupdict())


def _query_address(named: str) -> QueryAddress:
    found = _QUERY.search(named)
    query = named[found.end() :] if found else ""
    if not query.strip():
        raise UserInputError(
            f"{_without_user(named)}: expected a query at its end, {_EXAMPLE}, in quotes for the shell"
        )
    if not re.search(r"\s", query):  # no SELECT does without, so it is written for an address
        query = unquote(query)
    url = named[: found.start()] if found else named
    return QueryAddress(name=_without_user(url), url=url, query=query)


def _without_user(named: str) -> str:
    """Return an address without user, password and options, all of which may be secret."""
    found = _BEFORE_OPTIONS.match(named)
    return printable(found[1] + found[2].rpartition("@")[2]) if found else printable(named.partition("?")[0])
