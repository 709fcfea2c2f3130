"""Certificates of a private authority, and who gets which files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import typer

from coldfuse.cli.options.certs import CertsOptions
from coldfuse.core.names import Identity, id_of
from coldfuse.errors import UserInputError
from coldfuse.trust.certs import Holder, Pair, is_ending
from coldfuse.trust.certs_folder import CLIENT_PREFIX, Given, alone_in, give, holders_in, open_authority, stem_of
from coldfuse.trust.host_names import host_of


def certs(options: CertsOptions) -> None:
    """Make or renew certificates, and say which files go to whom."""
    _require_apart(options.folder)
    asked, now = _asked(options), datetime.now(UTC)
    if not (asked or (options.folder / "ca.key").exists()):
        raise UserInputError(
            f"{options.folder}: holds no certificates to renew; name what callers call the gateway by, with --host"
        )
    with alone_in(options.folder):
        authority, is_new = open_authority(options.folder, now)
        holders = asked or holders_in(options.folder)
        given = [
            give(options.folder, authority, holder, now=now, days=options.days, always=options.renew)
            for holder in holders
        ]
    typer.echo("\n".join([*_about_authority(options.folder, authority, is_new=is_new), *map(_line, given)]))
    if is_ending(authority.certificate, now):
        typer.echo(
            f"coldfuse: the authority itself ends on {authority.certificate.not_valid_after_utc:%Y-%m-%d}; make "
            "another in a new folder in time, and give everybody the ca.pem of both in one file until all have moved",
            err=True,
        )


def _require_apart(folder: Path) -> None:
    """Refuse a folder that others read: whatever lies in a store is copied, mirrored and handed out."""
    if re.match(r"\w+:/", str(folder)):  # a path has lost one of the two strokes
        raise UserInputError(f"{folder}: expected a folder of this machine, since an authority's key lies in it")
    store = next((each for each in (folder.absolute(), *folder.absolute().parents) if _is_store(each)), None)
    if store is not None:
        raise UserInputError(f"{folder}: lies in the store {store}, where no private key may be; choose another folder")


def _is_store(folder: Path) -> bool:
    return (folder / "federation.json").exists()


def _asked(options: CertsOptions) -> list[Holder]:
    holders = []
    if options.host:
        _require_file_name(options.name)
        holders.append(Holder(name=options.name, hosts=tuple(dict.fromkeys(map(host_of, options.host)))))
    names = dict.fromkeys(Identity.of(name, what="--client").id for name in options.client)
    return [*holders, *(Holder(name=name) for name in names)]


def _require_file_name(name: str) -> None:
    if not name or id_of(name) != name or name == "ca" or name.startswith(CLIENT_PREFIX):
        raise UserInputError(
            f"--name {name[:100]!r}: names the gateway's files, expected lower-case letters, digits, '.', '_' and '-', "
            f"and neither ca nor {CLIENT_PREFIX}…"
        )


def _about_authority(folder: Path, authority: Pair, *, is_new: bool) -> Iterator[str]:
    until = f"{authority.certificate.not_valid_after_utc:%Y-%m-%d}"
    yield f"authority {'made' if is_new else 'kept'}, until {until}; its key {folder / 'ca.key'} goes to nobody"
    yield f"  everybody: ca.pem, for --tls-ca (a gateway only to ask callers for certificates); all in {folder}"


def _line(given: Given) -> str:
    stem, what = stem_of(given.holder), "kept" if given.why is None else f"made ({given.why})"
    whom = f"gateway {', '.join(given.holder.hosts)}" if given.holder.is_gateway else f"client {given.holder.name}"
    return f"  {whom}: {stem}.pem and {stem}.key, for --tls-cert and --tls-key; {what}, until {given.until:%Y-%m-%d}"
