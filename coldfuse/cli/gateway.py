"""Serve contributors and consumers."""

from __future__ import annotations

import sys

import typer

from coldfuse.cli.options.operator import GatewayOptions
from coldfuse.cli.source import start_on, tls_files
from coldfuse.cli.units import parse_size
from coldfuse.errors import StorageError
from coldfuse.processes import LISTENING, stop_on_signals
from coldfuse.storage import ObjectStore, collect_garbage, ensure_suitable, wait_for
from coldfuse.transport.server import GatewaySettings, serve_gateway

_GARBAGE_S = 7 * 86400.0
"""Unfinished writes older than this are dropped when a gateway starts; an upload that slow will send its part again."""


def gateway(options: GatewayOptions) -> None:
    """Run a gateway until stopped."""
    federation, listening = start_on(options.store), options.listening
    if doubt := wait_for(lambda: ensure_suitable(federation.store), _warn):
        _warn(doubt)
    _collect_garbage(federation.store)
    settings = GatewaySettings(
        listen=listening.listen, tls=tls_files(listening.tls_ca, listening.tls_cert, listening.tls_key),
        insecure=listening.insecure, memory_bytes=parse_size(options.memory), max_streams=options.serving.max_streams,
    )  # fmt: skip
    stop = stop_on_signals()
    with serve_gateway(federation, settings) as running:
        typer.echo(f"{LISTENING}{running.address}")
        sys.stdout.flush()
        stop.wait()


def _collect_garbage(store: ObjectStore) -> None:
    """Drop what dead writers left; where that fails, the next start does it."""
    try:
        collect_garbage(store, older_than_s=_GARBAGE_S)
    except StorageError as error:
        _warn(f"leftovers of dead writers stay for now: {error}")


def _warn(message: str) -> None:
    typer.echo(f"coldfuse: {message}", err=True)
