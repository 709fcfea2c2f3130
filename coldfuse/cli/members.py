"""Members of a federation: invited, listed and revoked by operators."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import typer

from coldfuse.api.values import when
from coldfuse.cli.holding import Holding, hold
from coldfuse.cli.options.trust import EnrollOptions, MembersOptions, RevokeOptions
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.core.names import Identity, shown
from coldfuse.core.words import printable
from coldfuse.errors import UserInputError
from coldfuse.registry.proposals import Document, arrange
from coldfuse.transport.connect import is_address
from coldfuse.trust.members import KeyStatement, Member, Members, Quota
from coldfuse.trust.membership import Enrolment, Invitation, decide, enrolled, revoked
from coldfuse.trust.root_changes import SHORT
from coldfuse.trust.tokens import Token

_MAX_REASON_CHARS = 500


def enroll(options: EnrollOptions) -> None:
    """Invite somebody, or renew who has joined."""
    now_s = time.time()
    invitation = _invitation(options, now_s)
    if options.out is not None and options.out.exists():
        raise UserInputError(f"{options.out}: is there already; give a new file with --out")
    holding = hold(options.store, root=options.signing.root)
    before = holding.known.members.members.get(invitation.who.id)
    has_joined = before is not None and bool(holding.view.statements(invitation.who.id, before))
    what, why = decide(before, has_joined=has_joined, is_new_key=options.is_new_key)
    token = None if what == "renewed" else Token.make(
        federation=holding.known.fingerprint, who=invitation.who,
        role=invitation.role or (before.role if before else "contributor"),
        address=_address(options.address) or holding.store.url, join_by_s=invitation.join_by_s,
    )  # fmt: skip
    invite = None if token is None else token.key.public
    members = enrolled(holding.known.members, invitation, invite=invite, now_s=now_s)
    with nullcontext() if token is None else _handing_over(token, options.out):
        is_out = _carry_out(holding, members, options)
        _say_enrolled(options, members.members[invitation.who.id], (what, why), is_out=is_out)


def _invitation(options: EnrollOptions, now_s: float) -> Invitation:
    size = parse_size(options.quota) if options.quota is not None else None
    if (join_by_s := parse_duration(options.join_by)) > options.days * 86400:
        raise UserInputError(
            f"--join-by {options.join_by}: is longer than the membership holds; give a shorter one, or more --days"
        )
    return Invitation(
        who=Identity.of(options.name), role=options.role,
        quota=Quota(contribution_bytes=size, uncommitted_bytes=size, contributions_per_day=options.per_day),
        join_by_s=now_s + join_by_s, valid_until_s=now_s + options.days * 86400,
    )  # fmt: skip


def _address(given: str | None) -> str | None:
    """Return where a token leads; what cannot be an address would be noticed by who is invited, far away."""
    if given is None or is_address(given) or "://" in given:
        return given
    if given.strip() and Path(given).is_dir():
        return str(Path(given).absolute())
    raise UserInputError(f"--address {given[:80]}: expected HOST:PORT of a gateway, or a store")


def _carry_out(holding: Holding, members: Members, options: EnrollOptions | RevokeOptions) -> bool:
    signers = holding.signers("operator", options.signing)
    return holding.carry_out(arrange([Document.of("members", members)]), signers)


def _say_enrolled(options: EnrollOptions, member: Member, decision: tuple[Enrolment, str], *, is_out: bool) -> None:
    """Say on standard error what was done: standard output is the token's alone."""
    who = shown(Identity.of(options.name).id, member.display_name)
    what, why = decision
    if not is_out:
        typer.echo(f"{who}: nothing holds before the others have signed", err=True)
    typer.echo(f"{who}: {what} as {member.role}, until {when(member.valid_until_s)}: {why}", err=True)
    if what != "renewed":
        if options.address is None:
            typer.echo(
                "the token leads to the store itself; for other machines give a gateway's --address HOST:PORT", err=True
            )
        typer.echo(
            f"the token is a secret for one use, until {when(member.join_by_s)}: hand it over so that nobody else "
            "reads it; who has it runs: coldfuse join TOKEN_FILE",
            err=True,
        )


@contextmanager
def _handing_over(token: Token, out: Path | None) -> Iterator[None]:
    """Hand the token over after the block, which publishes the invitation; where it goes is made sure of before."""
    if out is None or str(out) == "-":
        yield
        typer.echo(token.text)
        return
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UserInputError(
            f"{out}: cannot be written ({error.strerror}), so nobody was invited; give another --out"
        ) from error
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{token.text}\n")
            file.flush()
            os.fsync(handle)
        yield
    except BaseException:
        out.unlink()  # a token that invites nobody
        raise


def members(options: MembersOptions) -> None:
    """List the members."""
    holding = hold(options.store, root=options.root)
    rows = [
        (name, member, holding.view.statements(name, member))
        for name, member in sorted(holding.known.members.members.items())
    ]
    if options.as_json:
        typer.echo(json.dumps([_as_json(name, member, keys) for name, member, keys in rows]))
        return
    if not rows:
        typer.echo(
            "no members; any key may contribute, as the federation is open"
            if holding.known.root.is_open
            else f"no members yet; invite somebody with: coldfuse enroll {options.store} NAME"
        )
    for name, member, keys in rows:
        typer.echo(f"{shown(name, member.display_name)}: {'; '.join(_words(member, keys, time.time()))}")


def _words(member: Member, keys: list[KeyStatement], now_s: float) -> list[str]:
    words: list[str] = [member.role]
    if keys:
        words.append(f"key {keys[-1].key.id[:SHORT]}, joined {when(keys[0].made_at_s)}")
    elif now_s > member.join_by_s:
        words.append(f"never joined, and its invitation has expired {when(member.join_by_s)}")
    else:
        words.append(f"invited, may join until {when(member.join_by_s)}")
    if member.quota.contribution_bytes is not None:
        words.append(f"at most {member.quota.contribution_bytes:,} bytes")
    if member.quota.contributions_per_day is not None:
        words.append(f"at most {member.quota.contributions_per_day} a day")
    if member.revoked is not None:
        why = f": {printable(member.revoked.reason)}" if member.revoked.reason else ""
        words.append(f"REVOKED {when(member.revoked.at_s)}, for all since {when(member.revoked.since_s)}{why}")
    else:
        words.append(f"{'EXPIRED' if now_s > member.valid_until_s else 'until'} {when(member.valid_until_s)}")
    return words


def _as_json(name: str, member: Member, keys: list[KeyStatement]) -> dict[str, object]:
    return {
        "name": name,
        "display_name": member.display_name,
        "role": member.role,
        "quota": member.quota.model_dump(),
        "key": keys[-1].key.id if keys else None,
        "num_keys": len(keys),
        "joined_at_s": keys[0].made_at_s if keys else None,
        "join_by_s": member.join_by_s,
        "valid_until_s": member.valid_until_s,
        "revoked": member.revoked and member.revoked.model_dump(),
    }


def revoke(options: RevokeOptions) -> None:
    """Take a membership away."""
    now_s, who = time.time(), Identity.of(options.name)
    since_s = None if options.since is None else parse_time(options.since, now_s=now_s)
    reason = printable(options.reason)[:_MAX_REASON_CHARS]
    holding = hold(options.store, root=options.signing.root)
    after = revoked(holding.known.members, who.id, since_s=since_s, reason=reason, now_s=now_s)
    revocation = after.members[who.id].revoked
    if _carry_out(holding, after, options) and revocation is not None:
        name, since = shown(who.id, who.display_name), when(revocation.since_s)
        typer.echo(f"{name} is revoked; nothing counts that it has sent since {since}")


def parse_time(text: str, *, now_s: float) -> float:
    """Return seconds since 1970.

    >>> parse_time("2026-03-01T12:00:00+00:00", now_s=0), parse_time("1h", now_s=7200)
    (1772366400.0, 3600.0)

    Args:
        text: A date, a date and a time (of this machine's zone, unless it says one), or how long ago.
        now_s: Seconds since 1970.
    """
    try:
        given = datetime.fromisoformat(text)
        found = (given if given.tzinfo else given.astimezone()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        try:
            found = now_s - parse_duration(text)
        except UserInputError as error:
            raise UserInputError(
                f"{text[:80]!r}: expected a time such as 2026-03-01 or 2026-03-01T12:00, or how long ago, such as 3d"
            ) from error
    if found < 0:
        raise UserInputError(f"{text[:80]!r}: is before 1970, and so before there was anything; give a later time")
    return found
