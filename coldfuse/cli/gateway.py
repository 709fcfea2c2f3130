"""Serve contributors and consumers."""

from __future__ import annotations

import sys

import typer

from coldfuse.cli.options.operator import GatewayOptions
from coldfuse.cli.source import open_store_of, tls_files
from coldfuse.cli.units import parse_size
from coldfuse.processes import LISTENING, stop_on_signals
from coldfuse.storage import check_store, collect_garbage
from coldfuse.transport.server import GatewaySettings, serve_gateway

_GARBAGE_S = 7 * 86400.0
"""Unfinished writes older than this are dropped when a gateway starts; an upload that slow will send its part again."""


def gateway(options: GatewayOptions) -> None:
    """Run a gateway until stopped."""
    federation, listening = open_store_of(options.store), options.listening
    check_store(federation.store)
    collect_garbage(federation.store, older_than_s=_GARBAGE_S)
    settings = GatewaySettings(
        listen=listening.listen, tls=tls_files(listening.tls_ca, listening.tls_cert, listening.tls_key),
        insecure=listening.insecure, memory_bytes=parse_size(options.memory), max_streams=options.serving.max_streams,
    )  # fmt: skip
    stop = stop_on_signals()
    with serve_gateway(federation, settings) as running:
        typer.echo(f"{LISTENING}{running.address}")
        sys.stdout.flush()
        stop.wait()
