"""The consumer's commands: fetch a release, and look at a federation."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import typer

from coldfuse.api.bars import bytes_bar, is_watched
from coldfuse.api.channels import Placed, describe_channels, placed
from coldfuse.api.edits import edits_of
from coldfuse.api.recomputed import Words
from coldfuse.api.values import describe_change, describe_release
from coldfuse.cli.model_key import lacking, require_place, write_model_key
from coldfuse.cli.options.consumer import FetchOptions, ReleasesOptions, StatusOptions
from coldfuse.cli.pace import Pace
from coldfuse.cli.source import connect
from coldfuse.cli.standing import describe_stand, stands
from coldfuse.consumer import fetch as fetch_release
from coldfuse.consumer.channels import read_channels
from coldfuse.consumer.folder import missing_code
from coldfuse.core.federation import SettingsChange
from coldfuse.core.left_out import left_out_lines
from coldfuse.core.model_files import MODULES, PIPELINE
from coldfuse.core.release import Channel
from coldfuse.core.rollback import Rollback
from coldfuse.core.shared_module import TENSORS, SharedModule
from coldfuse.errors import DamagedObjectError, FederationError, ObjectNotFoundError
from coldfuse.gateway import Gateway, OnProgress, Status
from coldfuse.registry.channels import check_channel
from coldfuse.trust.recomputed import Recomputations


def fetch(options: FetchOptions) -> None:
    """Download a release."""
    which = check_channel(options.channel) if options.release is None else options.release
    require_place(options.model_key, options.out)
    with connect(options.source, options.connection) as gateway, _watching() as progress:
        fetched = fetch_release(
            gateway, options.out, which=which, progress=progress, verify=options.verify, allow_older=options.allow_older
        )
        if options.model_key is not None:
            write_model_key(gateway, options.out, options.model_key)
        lacks = lacking(gateway, fetched)
    manifest, out = fetched.manifest, options.out
    for said in filter(None, (fetched.changed, lacks, fetched.taken_back)):
        typer.echo(f"coldfuse: {said}", err=True)
    if options.as_json:
        facts = {"release": manifest.release, "digest": manifest.model_digest, "out": str(out)}
        traffic = {"downloaded_bytes": fetched.downloaded_bytes, "reused_bytes": fetched.reused_bytes}
        left_out = {"left_out": [dataclasses.asdict(item) for item in missing_code(out, manifest)]}
        taken_back = fetched.taken_back and dataclasses.asdict(fetched.taken_back)
        news = {"changed": fetched.changed, "taken_back": taken_back, "signed": list(fetched.signed)}
        typer.echo(json.dumps(facts | traffic | news | left_out))
        return
    down, kept = fetched.downloaded_bytes / 2**20, fetched.reused_bytes / 2**20
    typer.echo(f"release {manifest.release} in {out}: {down:.1f} MiB downloaded, {kept:.1f} MiB were there")
    if fetched.signed:
        typer.echo(f"signed: {', '.join(fetched.signed)}")
    for line in left_out_lines(missing_code(out, manifest)):
        typer.echo(line)
    if manifest.module is None:
        typer.echo(f'load it with {_loader(manifest.files)}("{out}")')
    else:
        typer.echo(f"shared: {manifest.module}")
        typer.echo(f"load it {_how_to_load(manifest.module, str(out))}")
    typer.echo(f"digest {manifest.model_digest}")


def _loader(files: Collection[str]) -> str:
    if PIPELINE in files:
        return "DiffusionPipeline.from_pretrained"
    return "SentenceTransformer" if MODULES in files else "AutoModel.from_pretrained"


def _how_to_load(module: SharedModule, out: str) -> str:
    if module.kind == TENSORS:
        return f'into the body with coldfuse.load_module(body, "{out}")'
    return f'on the body with PeftModel.from_pretrained(body, "{out}")'


@contextmanager
def _watching() -> Iterator[OnProgress]:
    """Yield what shows how far a fetch is: a bar on a terminal, elsewhere a line now and then."""
    if is_watched():
        with bytes_bar("fetching") as show:
            yield show
        return
    pace = Pace()
    pace.count()  # what takes no time needs no words

    def say(done: int, total: int) -> None:
        if pace.is_due():
            typer.echo(f"coldfuse: fetching, {done / 2**20:.1f} of {total / 2**20:.1f} MiB", err=True)

    yield say


_LOOKED_AT = 20
"""Number of the newest releases whose edits a status lists: it is asked for often."""


def status(options: StatusOptions) -> None:
    """Say where a federation stands."""
    with connect(options.source, options.connection) as gateway:
        answer = gateway.status()
        module = _shared(gateway, answer.latest.number)
        words = _words_on_latest(gateway, answer)
        channels = read_channels(gateway)
        latest = channels.get("latest")
        edits = edits_of(gateway, latest, latest=answer.latest.number, most=_LOOKED_AT)
    if options.as_json:
        document = (
            dataclasses.asdict(answer)
            | {
                "rules": answer.rules.model_dump(),
                "change": answer.change and answer.change.model_dump(),
                "screening": answer.screening and answer.screening.model_dump(),
                "statistics": answer.statistics.model_dump(),
                "gate": answer.gate and answer.gate.model_dump(),
                "stands": stands(answer),
                "shared": module and module.model_dump(),
                "channels": {name: channel.release for name, channel in channels.items()},
                "rollback": (step := _rollback(channels)) and step.model_dump(),
            }
            | edits.document()
            | _recomputed(words)
        )
        typer.echo(json.dumps(document))
        return
    typer.echo(str(answer))
    for said in describe_channels(channels):
        typer.echo(said)
    if module is not None:
        typer.echo(f"shared: {module}")
    for said in edits.lines():
        typer.echo(said)
    if words is not None:
        typer.echo(f"checked: {words}")
    if line := describe_stand(answer):
        typer.echo(line)


def _words_on_latest(gateway: Gateway, answer: Status) -> Recomputations | None:
    """Return what members say of the latest release; None of a base, or where nobody's word can be verified."""
    latest = answer.latest.number
    summary = next(gateway.releases(before=latest + 1), None) if latest else None
    return Words(gateway).on_summary(summary) if summary is not None else None


def _shared(gateway: Gateway, number: int) -> SharedModule | None:
    """Return what a release is a module of; None also where its manifest cannot be had, which is another's to say."""
    try:
        return gateway.release(number).module
    except (FederationError, DamagedObjectError, ObjectNotFoundError):
        return None


def releases(options: ReleasesOptions) -> None:
    """List the releases of a federation."""
    with connect(options.source, options.connection) as gateway:
        lines, words, channels = _history(gateway), Words(gateway), read_channels(gateway)
        if options.as_json:
            typer.echo(json.dumps([
                _describe(one, changes) | _recomputed(words.on_summary(one.summary)) for one, changes in lines
            ]))  # fmt: skip
            return
        for line in describe_channels(channels):
            typer.echo(line)
        for one, changes in lines:
            for change in changes:
                typer.echo(describe_change(change))
            typer.echo(f"{describe_release(one.summary)}{one.mark}")
            said = words.on_summary(one.summary)
            if said is not None and (said.agree or said.differ):
                typer.echo(f"{'':>5}  {said}")


def _recomputed(words: Recomputations | None) -> dict[str, object]:
    return {} if words is None else {"recomputed": dataclasses.asdict(words)}


def _rollback(channels: Mapping[str, Channel]) -> Rollback | None:
    return channels["latest"].rollback if "latest" in channels else None


def _history(gateway: Gateway) -> Iterator[tuple[Placed, list[SettingsChange]]]:
    """Yield each release, newest first, with the changes of the rules made after it and before the next one."""
    changes = gateway.changes()
    change = next(changes, None)
    for one in placed(gateway.releases(), read_channels(gateway)):
        since: list[SettingsChange] = []
        while change is not None and change.after_release >= one.summary.name.number:
            since.append(change)
            change = next(changes, None)
        yield one, since


def _describe(one: Placed, changes: list[SettingsChange]) -> dict[str, object]:
    summary = one.summary
    return {
        "release": summary.name.number,
        "parent": summary.parent,
        "round": summary.round,
        "method": summary.method,
        "model_digest": summary.name.model_digest,
        "created_at_s": summary.created_at_s,
        "moved": summary.moved,
        "cut_error": summary.cut_error,
        "contributions": [dataclasses.asdict(fused) for fused in summary.contributions],
        "changes_after": [change.model_dump() for change in changes],
        "channels": list(one.channels),
        "is_taken_back": one.is_taken_back,
    }
