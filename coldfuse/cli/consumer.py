"""The consumer's commands: fetch a release, and look at a federation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.cli.source import connect, is_address, open_store_of, read_status_of_store, tls_files

if TYPE_CHECKING:
    from coldfuse.fetch import ReleaseSource

_SOURCE = typer.Argument(help="A store (folder or s3://BUCKET/PREFIX) or a gateway (HOST:PORT).", show_default=False)
_TLS_CA = typer.Option(None, help="Authority that the gateway's certificate must come from, PEM.")
_INSECURE = typer.Option(False, "--insecure", help="Speak plain text to a gateway on another machine.")
_PATIENCE_HELP = "How long to try while the gateway is out of reach."
_QUICK_PATIENCE = typer.Option("10s", "--patience", help=_PATIENCE_HELP)
_JSON = typer.Option(False, "--json", help="Print JSON.")


def fetch(
    source: str = _SOURCE,
    out: Path = typer.Option(..., help="The folder to write; the next fetch into it brings only what changed."),
    release: int | None = typer.Option(None, min=0, help="Number of the release; the channel's by default."),
    channel: str = typer.Option("latest", help="Which channel to follow."),
    tls_ca: Path | None = _TLS_CA,
    insecure: bool = _INSECURE,
    patience: str = typer.Option("2m", help=_PATIENCE_HELP),
    as_json: bool = _JSON,
) -> None:
    """Download a release, verify it, and leave a folder that from_pretrained loads.

    Example: coldfuse fetch 127.0.0.1:7700 --out ./model
    """
    from coldfuse.cli.progress import bytes_bar
    from coldfuse.fetch import fetch as fetch_release

    with _releases_of(source, tls_ca, insecure, patience) as releases, bytes_bar("fetching") as progress:
        fetched = fetch_release(releases, out, which=channel if release is None else release, progress=progress)
    manifest = fetched.manifest
    if as_json:
        facts = {"release": manifest.release, "digest": manifest.model_digest, "out": str(out)}
        traffic = {"downloaded_bytes": fetched.downloaded_bytes, "reused_bytes": fetched.reused_bytes}
        typer.echo(json.dumps(facts | traffic))
        return
    down, kept = fetched.downloaded_bytes / 2**20, fetched.reused_bytes / 2**20
    typer.echo(f"release {manifest.release} in {out}: {down:.1f} MiB downloaded, {kept:.1f} MiB were there")
    typer.echo(f'load it with AutoModel.from_pretrained("{out}")')
    typer.echo(f"digest {manifest.model_digest}")


def status(
    source: str = _SOURCE,
    tls_ca: Path | None = _TLS_CA,
    insecure: bool = _INSECURE,
    patience: str = _QUICK_PATIENCE,
    as_json: bool = _JSON,
) -> None:
    """Say where a federation stands: its round, who contributed, and what it waits for.

    Example: coldfuse status ./federation
    """
    if is_address(source):
        with connect(source, tls=tls_files(tls_ca, None, None), insecure=insecure, patience=patience) as client:
            answer = client.status()
    else:
        answer = read_status_of_store(open_store_of(source))
    if as_json:
        document = dataclasses.asdict(answer) | {"rules": answer.rules.model_dump()}
        typer.echo(json.dumps(document))
        return
    latest, now = answer.latest, answer.round
    typer.echo(f"federation {answer.name}, method {answer.method}")
    typer.echo(f"latest release {latest.number}, model {latest.model_digest}")
    counts = f"{now.num_received} received, {now.num_admitted} admitted, {now.num_rejected} rejected"
    typer.echo(f"round {now.number}: {counts}{': ' if now.contributors else ''}{', '.join(now.contributors)}")
    typer.echo(f"waiting: {now.waits_for}")


def releases(
    source: str = _SOURCE,
    tls_ca: Path | None = _TLS_CA,
    insecure: bool = _INSECURE,
    patience: str = _QUICK_PATIENCE,
    as_json: bool = _JSON,
) -> None:
    """List the releases of a federation, newest first, with what went into each.

    Example: coldfuse releases s3://models/federation --json
    """
    with _releases_of(source, tls_ca, insecure, patience) as opened:
        newest = opened.release()
        manifests = [newest, *(opened.release(number) for number in range(newest.release - 1, -1, -1))]
    if as_json:
        typer.echo(json.dumps([manifest.model_dump(mode="json", exclude={"files"}) for manifest in manifests]))
        return
    for manifest in manifests:
        made = datetime.fromtimestamp(manifest.created_at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        who = ", ".join(contribution.contributor for contribution in manifest.contributions) or "the base"
        typer.echo(f"{manifest.release:>5}  {made}  {manifest.model_digest[:16]}  {manifest.method}: {who}")


@contextmanager
def _releases_of(source: str, tls_ca: Path | None, insecure: bool, patience: str) -> Iterator[ReleaseSource]:
    from coldfuse.fetch import StoreSource

    if is_address(source):
        with connect(source, tls=tls_files(tls_ca, None, None), insecure=insecure, patience=patience) as client:
            yield client
    else:
        yield StoreSource(open_store_of(source))
