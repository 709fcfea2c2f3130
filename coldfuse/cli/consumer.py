"""The consumer's commands: fetch a release, and look at a federation."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.cli.source import connect, tls_files

if TYPE_CHECKING:
    from coldfuse.gateway import ReleaseSummary

_SOURCE = typer.Argument(help="A store (folder or s3://BUCKET/PREFIX) or a gateway (HOST:PORT).", show_default=False)
_TLS_CA = typer.Option(None, help="Authority that the gateway's certificate must come from, PEM.")
_TLS_CERT = typer.Option(None, help="Your certificate, PEM, where the gateway asks for one.")
_TLS_KEY = typer.Option(None, help="Its private key, PEM.")
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
    tls_cert: Path | None = _TLS_CERT,
    tls_key: Path | None = _TLS_KEY,
    insecure: bool = _INSECURE,
    patience: str = typer.Option("2m", help=_PATIENCE_HELP),
    verify: bool = typer.Option(
        False, "--verify", help="Read all that is there already, even if no file has changed by its size and time."
    ),
    as_json: bool = _JSON,
) -> None:
    """Download a release, verify it, and leave a folder that from_pretrained loads.

    Example: coldfuse fetch 127.0.0.1:7700 --out ./model
    """
    from coldfuse.cli.progress import bytes_bar
    from coldfuse.consumer import fetch as fetch_release
    from coldfuse.registry.channels import check_channel

    which = check_channel(channel) if release is None else release
    tls = tls_files(tls_ca, tls_cert, tls_key)
    gateway = connect(source, tls=tls, insecure=insecure, patience=patience)
    with gateway, bytes_bar("fetching") as progress:
        fetched = fetch_release(gateway, out, which=which, progress=progress, verify=verify)
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
    tls_cert: Path | None = _TLS_CERT,
    tls_key: Path | None = _TLS_KEY,
    insecure: bool = _INSECURE,
    patience: str = _QUICK_PATIENCE,
    as_json: bool = _JSON,
) -> None:
    """Say where a federation stands: its round, who contributed, and what it waits for.

    Example: coldfuse status ./federation
    """
    tls = tls_files(tls_ca, tls_cert, tls_key)
    with connect(source, tls=tls, insecure=insecure, patience=patience) as gateway:
        answer = gateway.status()
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
    tls_cert: Path | None = _TLS_CERT,
    tls_key: Path | None = _TLS_KEY,
    insecure: bool = _INSECURE,
    patience: str = _QUICK_PATIENCE,
    as_json: bool = _JSON,
) -> None:
    """List the releases of a federation, newest first, with what went into each.

    Example: coldfuse releases s3://models/federation --json
    """
    tls = tls_files(tls_ca, tls_cert, tls_key)
    with connect(source, tls=tls, insecure=insecure, patience=patience) as gateway:
        if as_json:
            typer.echo(json.dumps([_describe(summary) for summary in gateway.releases()]))
            return
        for summary in gateway.releases():
            made = datetime.fromtimestamp(summary.created_at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
            names = ", ".join(fused.contributor for fused in summary.contributions)
            who = names or (f"{summary.num_contributions} contributions" if summary.num_contributions else "the base")
            name = summary.name
            moved = "" if summary.moved is None else f", {summary.moved:.2%} of the elements moved"
            typer.echo(f"{name.number:>5}  {made}  {name.model_digest[:16]}  {summary.method}: {who}{moved}")


def _describe(summary: ReleaseSummary) -> dict[str, object]:
    return {
        "release": summary.name.number,
        "parent": summary.parent,
        "round": summary.round,
        "method": summary.method,
        "model_digest": summary.name.model_digest,
        "created_at_s": summary.created_at_s,
        "moved": summary.moved,
        "contributions": [dataclasses.asdict(fused) for fused in summary.contributions],
    }
