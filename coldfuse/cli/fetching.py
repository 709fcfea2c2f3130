"""Fetching a release that a model's name means, by what the user says of the connection."""

from __future__ import annotations

from pathlib import Path

from coldfuse.api.candidates import Fetch
from coldfuse.cli.options.shared import Connection
from coldfuse.cli.source import connect
from coldfuse.consumer import fetch


def fetching(connection: Connection) -> Fetch:
    """Return what fetches a release of a federation, and verifies it."""

    def fetch_release(source: str, which: int | str, out: Path) -> None:
        with connect(source, connection) as gateway:
            fetch(gateway, out, which=which)

    return fetch_release
