"""The consumer's commands: fetch a release, and look at a federation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import typer

from coldfuse.api.bars import is_watched, watching
from coldfuse.api.values import describe_change, describe_release
from coldfuse.cli.options.consumer import FetchOptions, ReleasesOptions, StatusOptions
from coldfuse.cli.source import connect
from coldfuse.consumer import fetch as fetch_release
from coldfuse.core.federation import SettingsChange
from coldfuse.gateway import Gateway, ReleaseSummary
from coldfuse.registry.channels import check_channel


def fetch(options: FetchOptions) -> None:
    """Download a release."""
    which = check_channel(options.channel) if options.release is None else options.release
    with connect(options.source, options.connection) as gateway, watching("fetching", is_watched()) as progress:
        fetched = fetch_release(gateway, options.out, which=which, progress=progress, verify=options.verify)
    manifest, out = fetched.manifest, options.out
    if options.as_json:
        facts = {"release": manifest.release, "digest": manifest.model_digest, "out": str(out)}
        traffic = {"downloaded_bytes": fetched.downloaded_bytes, "reused_bytes": fetched.reused_bytes}
        typer.echo(json.dumps(facts | traffic))
        return
    down, kept = fetched.downloaded_bytes / 2**20, fetched.reused_bytes / 2**20
    typer.echo(f"release {manifest.release} in {out}: {down:.1f} MiB downloaded, {kept:.1f} MiB were there")
    typer.echo(f'load it with AutoModel.from_pretrained("{out}")')
    typer.echo(f"digest {manifest.model_digest}")


def status(options: StatusOptions) -> None:
    """Say where a federation stands."""
    with connect(options.source, options.connection) as gateway:
        answer = gateway.status()
    if options.as_json:
        document = dataclasses.asdict(answer) | {
            "rules": answer.rules.model_dump(),
            "change": answer.change and answer.change.model_dump(),
        }
        typer.echo(json.dumps(document))
        return
    typer.echo(str(answer))


def releases(options: ReleasesOptions) -> None:
    """List the releases of a federation."""
    with connect(options.source, options.connection) as gateway:
        lines = _history(gateway)
        if options.as_json:
            typer.echo(json.dumps([_describe(summary, changes) for summary, changes in lines]))
            return
        for summary, changes in lines:
            for change in changes:
                typer.echo(describe_change(change))
            typer.echo(describe_release(summary))


def _history(gateway: Gateway) -> Iterator[tuple[ReleaseSummary, list[SettingsChange]]]:
    """Yield each release, newest first, with the changes of the rules made after it and before the next one."""
    changes = gateway.changes()
    change = next(changes, None)
    for summary in gateway.releases():
        since: list[SettingsChange] = []
        while change is not None and change.after_release >= summary.name.number:
            since.append(change)
            change = next(changes, None)
        yield summary, since


def _describe(summary: ReleaseSummary, changes: list[SettingsChange]) -> dict[str, object]:
    return {
        "release": summary.name.number,
        "parent": summary.parent,
        "round": summary.round,
        "method": summary.method,
        "model_digest": summary.name.model_digest,
        "created_at_s": summary.created_at_s,
        "moved": summary.moved,
        "contributions": [dataclasses.asdict(fused) for fused in summary.contributions],
        "changes_after": [change.model_dump() for change in changes],
    }
