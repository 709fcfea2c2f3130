"""Verify a store or a fetched folder, and say it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coldfuse.api.opening import as_named
from coldfuse.cli.options.verify import VerifyOptions
from coldfuse.cli.source import connect
from coldfuse.cli.units import parse_size
from coldfuse.config import home_folder
from coldfuse.contributor.signing import identity_of, require_witness
from coldfuse.errors import CodecError, ObjectNotFoundError, UserInputError
from coldfuse.extras import requiring
from coldfuse.gateway import Gateway
from coldfuse.storage import ObjectStore, open_store
from coldfuse.trust.check import sign_check
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import Identity, find_identity
from coldfuse.trust.root import fingerprint_of
from coldfuse.trust.view import root_key
from coldfuse.verification.anchor import Known, known_anchor
from coldfuse.verification.checking import check_of
from coldfuse.verification.findings import Report
from coldfuse.verification.folder import is_fetched, read_root, verify_folder
from coldfuse.verification.inspection import MAX_BYTES
from coldfuse.verification.store import Request, verify_store

if TYPE_CHECKING:
    from coldfuse.engine.execution import ThreadExecutor


def verify(options: VerifyOptions) -> None:
    """Verify; the worst finding decides the exit status."""
    if options.sign and not options.recompute:
        raise typer.BadParameter("--sign says what came of --recompute; give both")
    if options.only and not options.recompute:
        raise typer.BadParameter("--only is for --recompute; give both")
    if options.sign:
        _require_witness(options)
    report = _look(options)
    if options.as_json:
        typer.echo(json.dumps(report.as_json(strict=options.strict)))
    else:
        for line in _lines(report, strict=options.strict):
            typer.echo(line)
    if options.sign:
        for said in _hand_in(options, report):
            typer.echo(f"coldfuse: {said}", err=True)
    raise typer.Exit(report.status(strict=options.strict))


def _hand_in(options: VerifyOptions, report: Report) -> Iterator[str]:
    """Sign what came of fusing again, and hand it in."""
    with _as_witness(options, report.fingerprint) as (gateway, who):
        for one in report.recomputed:
            check = check_of(one, who, now_s=time.time())
            if check is None:
                yield f"release {one.release}: nothing is signed, as it was not fused again: {one.why}"
                continue
            gateway.put_check(sign_check(check, who))
            what = "the same" if check.agrees else "IT DIFFERS"
            yield f"release {one.release}: signed as {who.name} and handed in: {what}"


def _require_witness(options: VerifyOptions) -> None:
    """Refuse at once whose word nobody would take: fusing again may take hours."""
    root = None if is_fetched(Path(options.source)) else _first_root(open_store(options.source))
    known = _known(options, root)
    with _as_witness(options, known.fingerprint or (fingerprint_of(root) if root else None)) as (gateway, who):
        require_witness(gateway, who)


@contextmanager
def _as_witness(options: VerifyOptions, fingerprint: str | None) -> Iterator[tuple[Gateway, Identity]]:
    """Connect to where a member's word goes, and say whose it is."""
    if fingerprint is None:
        raise UserInputError("--sign: this federation has no root, and so no members whose word would count")
    folder, where = FederationFolder(home_folder(), fingerprint), options.report or options.source
    connection = replace(options.connection, root=fingerprint)
    with connect(where, connection, identify=as_named(options.name)) as gateway:
        yield gateway, identity_of(gateway) or find_identity(folder, options.name)


def _look(options: VerifyOptions) -> Report:
    at_s = time.time() if options.at is None else parse_time(options.at)
    folder = Path(options.source)
    if is_fetched(folder):
        if options.recompute:
            raise UserInputError(f"{folder}: is a fetched folder; --recompute needs a copy of the store")
        report = verify_folder(folder, _known(options, read_root(folder)), at_s=at_s)
        if report.release is not None and options.release not in (None, report.release):
            raise UserInputError(
                f"{folder}: holds release {report.release}, and --release {options.release} was asked for; leave that "
                "out, or name a copy of the store"
            )
        return report
    store = open_store(options.source)
    known = _known(options, _first_root(store))
    request = Request(
        at_s=at_s, fingerprint=known.fingerprint, seen=known.seen, release=options.release,
        reads_all=options.objects, is_alone=options.only,
    )  # fmt: skip
    if not options.recompute:
        return verify_store(store, request)
    with requiring("coldfuse verify --recompute", "fuse", at_once=("numba", "psutil")):
        return verify_store(store, replace(request, executor=_executor(options)))


def _executor(options: VerifyOptions) -> ThreadExecutor:
    import psutil

    from coldfuse.engine.execution import ThreadExecutor

    memory = parse_size(options.memory) if options.memory else None
    return ThreadExecutor(options.threads or psutil.cpu_count() or 1, memory_bytes=memory)


def _known(options: VerifyOptions, root: bytes | None) -> Known:
    """Return by what the federation is known; what its root is worth is looked at later."""
    try:
        claimed = fingerprint_of(root) if root is not None else None
    except CodecError:
        claimed = None
    return known_anchor(home_folder(), source=options.source, claimed=claimed, wanted=options.connection.root)


def _first_root(store: ObjectStore) -> bytes | None:
    try:
        return store.get(root_key(1), length=MAX_BYTES)
    except ObjectNotFoundError:
        return None


def parse_time(text: str) -> float:
    """Return a time as seconds since 1970.

    >>> parse_time("1970-01-02"), parse_time("1970-01-01T00:01Z"), parse_time("12.5")
    (86400.0, 60.0, 12.5)

    Raises:
        UserInputError: It is none.
    """
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]+)?", text):
        return float(text)
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        raise UserInputError(
            f"--at {text[:80]!r}: expected a day or a time, such as 2027-01-31 or 2027-01-31T12:00Z"
        ) from None


def _lines(report: Report, *, strict: bool) -> Iterator[str]:
    for finding in report.findings:
        yield str(finding)
    if report.num_more:
        yield f"and {report.num_more} more, none of them worse"
    for note in report.notes:
        yield f"note: {note}"
    for one in report.recomputed:
        if one.agrees:
            yield f"release {one.release} was fused again: the same bytes"
    looked_at = ", ".join(f"{count:,} {what}" for what, count in sorted(report.looked_at.items()))
    yield f"looked at: {looked_at or 'nothing more'}"
    status = report.status(strict=strict)
    what = f"release {report.release}" if report.release is not None else "the federation"
    root = f" of federation {report.fingerprint}" if report.fingerprint else ""
    fine = "fine" if report.fingerprint else "its bytes are right, and nobody has signed it"
    yield f"{what}{root}: {fine if status == 0 else f'NOT TO BE BELIEVED (exit status {status})'}"
