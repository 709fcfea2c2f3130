"""Serve contributors and consumers."""

from __future__ import annotations

import shutil
import sys

import typer

from coldfuse.cli.options.operator import GatewayOptions
from coldfuse.cli.serving import say_who_may
from coldfuse.cli.source import start_on, tls_files
from coldfuse.cli.units import parse_size
from coldfuse.errors import StorageError, UnsuitableStoreError
from coldfuse.processes import LISTENING, stop_on_signals
from coldfuse.storage import ObjectStore, collect_garbage, ensure_suitable, wait_for
from coldfuse.transport.server import GatewaySettings, serve_gateway

_GARBAGE_S = 7 * 86400.0
"""Unfinished writes older than this are dropped when a gateway starts; an upload that slow will send its part again."""

_UNCOMMITTED_IN_A_BUCKET = 256 << 30
"""Bytes that lie in a bucket, which has no end, and that nobody has committed; of a folder a quarter of its disk."""


def gateway(options: GatewayOptions) -> None:
    """Run a gateway until stopped."""
    federation, listening = start_on(options.store, root=options.root), options.listening
    if doubt := wait_for(lambda: _why_not(federation.store), _warn):
        _warn(f"takes no contributions for now, and goes on serving what there is: {doubt}")
    _collect_garbage(federation.store)
    settings = GatewaySettings(
        listen=listening.listen, tls=tls_files(listening.tls_ca, listening.tls_cert, listening.tls_key),
        insecure=listening.insecure, memory_bytes=parse_size(options.memory), max_streams=options.serving.max_streams,
        max_uncommitted_bytes=_max_uncommitted(options.serving.max_uncommitted, federation.store.url),
        show_names=options.serving.show_names, why_not=(lambda: _still_not(federation.store)) if doubt else None,
    )  # fmt: skip
    stop = stop_on_signals()
    with serve_gateway(federation, settings) as running:
        typer.echo(f"{LISTENING}{running.address}")
        sys.stdout.flush()
        say_who_may(federation, options.store)
        stop.wait()


def _why_not(store: ObjectStore) -> str | None:
    """Say why the store takes nothing: full, read-only, not this user's. One that is away is waited for."""
    try:
        return ensure_suitable(store)
    except UnsuitableStoreError:
        raise
    except StorageError as error:
        if error.may_pass:
            raise
        return str(error)


def _still_not(store: ObjectStore) -> str | None:
    """Say the same while the gateway runs, when nothing is a reason to end it."""
    try:
        return _why_not(store)
    except StorageError as error:
        return str(error)


def _max_uncommitted(given: str | None, url: str) -> int:
    if given is not None:
        return parse_size(given)
    if "://" in url:
        return _UNCOMMITTED_IN_A_BUCKET
    return shutil.disk_usage(url).total // 4


def _collect_garbage(store: ObjectStore) -> None:
    """Drop what dead writers left; where that fails, the next start does it."""
    try:
        collect_garbage(store, older_than_s=_GARBAGE_S)
    except StorageError as error:
        _warn(f"leftovers of dead writers stay for now: {error}")


def _warn(message: str) -> None:
    typer.echo(f"coldfuse: {message}", err=True)
