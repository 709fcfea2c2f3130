"""Push a release to the Hub, and say what went."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import typer

from coldfuse.api.bars import is_watched
from coldfuse.api.push import bring, known_of, place_for, push_folder, require_release
from coldfuse.cli.options.history import PushOptions
from coldfuse.cli.source import connect
from coldfuse.core.words import plural
from coldfuse.publishing.pushed import Pushed, Pushing
from coldfuse.verification.folder import is_fetched


def push(options: PushOptions) -> None:
    """Push a release."""
    pushing = Pushing(
        is_public=options.public, with_provenance=options.provenance, overwrite=options.overwrite,
        allow_older=options.allow_older,
    )  # fmt: skip
    source = Path(options.source)
    with ExitStack() as stack:
        if is_fetched(source):
            folder, known = source, known_of(source, root=options.connection.root)
            require_release(folder, options.release)
        else:
            folder = stack.enter_context(place_for(options.out))
            gateway = stack.enter_context(connect(options.source, options.connection))
            which = options.channel if options.release is None else options.release
            known = bring(gateway, folder, which, progress=is_watched() and not options.as_json)
        if known.fingerprint is None:
            typer.echo(
                "coldfuse: nobody is known who could have signed this release: only its bytes are right", err=True
            )
        pushed = push_folder(folder, options.repository, known, pushing, branch=options.branch, dry_run=options.dry_run)
        _say(pushed, options)


def _say(pushed: Pushed, options: PushOptions) -> None:
    if options.as_json:
        typer.echo(json.dumps({
            "release": pushed.release, "repository": pushed.repository, "branch": pushed.branch, "tag": pushed.tag,
            "commit": pushed.commit, "dry_run": options.dry_run, "size_bytes": pushed.size_bytes,
            "files": [{"path": each.path, "size_bytes": each.size_bytes} for each in pushed.files],
            "removed": list(pushed.removed), "notes": list(pushed.notes),
        }))  # fmt: skip
        return
    what = f"release {pushed.release}: {plural(len(pushed.files), 'file')}, {pushed.size_bytes / 2**20:.1f} MiB"
    if options.dry_run:
        typer.echo(f"would push {what} to {pushed.repository}, branch {pushed.branch}, tag {pushed.tag}:")
        for each in pushed.files:
            typer.echo(f"   {each.path}  {each.size_bytes:,} bytes")
        return
    for note in pushed.notes:
        typer.echo(note)
    for path in pushed.removed:
        typer.echo(f"taken out: {path}, which only the release before had")
    typer.echo(
        f"pushed {what} to {pushed.repository}, branch {pushed.branch}, tag {pushed.tag}, commit {pushed.commit}"
    )
