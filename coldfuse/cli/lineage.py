"""Where a release comes from, in words, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import typer

from coldfuse.api.channels import describe_channels
from coldfuse.api.edits import Edits, edits_of
from coldfuse.api.lineage import History, Step, describe_step, step_document, trace
from coldfuse.api.lineage_svg import lineage_svg
from coldfuse.cli.options.consumer import LineageOptions
from coldfuse.cli.source import connect
from coldfuse.config import home_folder
from coldfuse.consumer.channels import read_channels
from coldfuse.consumer.folder import read_fetched
from coldfuse.consumer.signatures import read_provenance
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.release import Channel
from coldfuse.core.serialization import encode
from coldfuse.core.words import plural
from coldfuse.durable import write_whole
from coldfuse.errors import SignatureError, UserInputError
from coldfuse.gateway import ReleaseSummary
from coldfuse.gateway.answers import summarize
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.lineage import SigningKeys, signing_keys
from coldfuse.trust.seen import Memory
from coldfuse.trust.view import root_key

_LOOKED_AT = 200
"""Number of releases whose edits are listed at most, where not all are asked for."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a lineage is read."""

    history: History
    """Its releases, verified where anybody can."""
    channels: Mapping[str, Channel] = field(default_factory=dict)
    """Channels by their names; none in a folder."""
    without: str = "this federation has no root: nothing in it is signed"
    """What there is to say where no key is known."""
    is_folder: bool = False
    """Whether it is a fetched folder, which knows one release."""


def lineage(options: LineageOptions) -> None:
    """Show where a release comes from."""
    folder = Path(options.source)
    if (held := _held(folder, options.release)) is not None:
        keys = _known_keys(held.federation)
        lacks = (
            "this machine knows no root of it: who has signed is not known" if held.is_signed else "it is not signed"
        )
        source = _Source(history=held, without=f"a release in a folder; {lacks}", is_folder=True)
        _show(options, keys, islice(trace(held, keys), 1), source)
        return
    with connect(options.source, options.connection) as gateway:
        source = _Source(history=gateway, channels=read_channels(gateway))
        if not isinstance(gateway, TrustedGateway):
            latest = gateway.status().latest.number if options.release is None else options.release
            _show(options, SigningKeys(), trace(gateway, SigningKeys(), release=latest), source)
            return
        # What was signed by keys that were replaced since is verified here, too: by what was made from it.
        unverified, release, named = gateway.unverified, options.release, None
        if release is None:
            channel = gateway.belief.channel("latest")
            release, named = channel.release, channel.manifest
        keys = signing_keys(unverified.read_signed, fingerprint=gateway.fingerprint)
        _show(options, keys, trace(unverified, keys, release=release, named=named), source)


def _show(options: LineageOptions, keys: SigningKeys, steps: Iterator[Step], source: _Source) -> None:
    """Print releases as they are read; then say what was not shown, and fail if a signature was not believed."""
    head = [f"root {keys.fingerprint}" if keys.fingerprint else source.without, *describe_channels(source.channels)]
    if not options.as_json:
        typer.echo("\n".join(head))
    shown: list[Step] = []
    for step in islice(steps, None if options.everything else options.last):
        shown.append(step)
        if not options.as_json:
            typer.echo(describe_step(step))
    parent = shown[-1].summary.parent if shown else None
    older = 0 if parent is None else parent + 1
    edits = _edits(source, shown, everything=options.everything)
    if options.as_json:
        releases = [step_document(step) for step in shown]
        where = {"channels": {name: channel.release for name, channel in source.channels.items()}}
        document = {"root": keys.fingerprint, "releases": releases, "older": older} | where | edits.document()
        typer.echo(json.dumps(document))
    else:
        typer.echo("".join(f"{line}\n" for line in _last_lines(source, edits, shown=len(shown), older=older)), nl=False)
    if options.svg is not None:
        write_whole(options.svg, lineage_svg(shown, older=older).encode())
    refused = [step for step in shown if step.signed.problem]
    if refused:
        others = f", and {plural(len(refused) - 1, 'other release')}" if len(refused) > 1 else ""
        raise SignatureError(f"release {refused[0].number}{others}: {refused[0].signed.problem}; see coldfuse verify")


def _last_lines(source: _Source, edits: Edits, *, shown: int, older: int) -> Iterator[str]:
    """Say what was not shown, and which edits there are."""
    if older:
        how = "ask the federation" if source.is_folder else f"--last {shown + older}, or --all"
        yield f"… {plural(older, 'release')} before: {how}"
    yield from edits.lines()


def _edits(source: _Source, shown: Sequence[Step], *, everything: bool) -> Edits:
    """Return the edits of what is shown and of all that came later: that may have taken some out again."""
    return edits_of(
        source.history, source.channels.get("latest"), latest=shown[0].number, oldest=shown[-1].number,
        most=None if everything else _LOOKED_AT,
    )  # fmt: skip


class _Folder:
    """The history that a fetched folder knows: one release."""

    def __init__(self, summary: ReleaseSummary, federation: str, provenance: bytes | None) -> None:
        self.federation = federation
        self._summary, self._provenance = summary, provenance

    @property
    def is_signed(self) -> bool:
        """Whether anything says what the release was made from."""
        return self._provenance is not None

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:  # noqa: ARG002 - there is one
        """Yield the one release."""
        yield self._summary

    def read_signed(self, key: str) -> bytes | None:  # noqa: ARG002 - the one release's
        """Return its signed statement."""
        return self._provenance


def _held(folder: Path, release: int | None) -> _Folder | None:
    """Return what a fetched folder knows; None where the source is none."""
    if not folder.is_dir() or (folder / SETTINGS_KEY).exists():
        return None
    manifest = read_fetched(folder)
    if manifest is None:
        return None
    if release not in (None, manifest.release):
        raise UserInputError(f"{folder}: holds release {manifest.release}, not {release}; ask the federation itself")
    return _Folder(summarize(encode(manifest)), manifest.federation, read_provenance(folder))


def _known_keys(federation: str) -> SigningKeys:
    """Return the keys of a federation by the roots that this user trusts; none where there are none."""
    folder = FederationFolder(home_folder(), federation)
    first = folder.pinned_root()
    if first is None:
        return SigningKeys()
    return signing_keys({root_key(1): first}.get, fingerprint=federation).under(Memory(folder).newest_root())
