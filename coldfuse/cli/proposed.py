"""What a change would change, in words, for operators who are asked to sign it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from coldfuse.api.values import when
from coldfuse.cli.holding import Holding
from coldfuse.core.federation import FederationSettings, SettingsChange, change_settings
from coldfuse.registry.proposals import Document, Proposal
from coldfuse.trust.members import Member, Members
from coldfuse.trust.root_changes import changes


def describe(proposal: Proposal, holding: Holding) -> list[str]:
    """Say what a proposal changes."""
    lines = [line for document in proposal.documents for line in _describe_one(document, holding)]
    return lines or ["nothing that is not so already"]


def _describe_one(document: Document, holding: Holding) -> Iterator[str]:
    if document.kind == "root":
        yield from changes(holding.known.root, document.root())
    elif document.kind == "members":
        yield from _member_changes(holding.known.members, document.members())
    elif document.kind == "channel":
        channel = document.channel()
        yield f"channel {channel.name}: {channel.rollback or f'points to release {channel.release}'}"
    else:
        yield from _rule_changes(holding.settings, document.settings())


def _member_changes(before: Members, after: Members) -> Iterator[str]:
    for name in sorted(after.members.keys() | before.members.keys()):
        old, new = before.members.get(name), after.members.get(name)
        if old == new:
            continue
        if new is None:
            yield f"{name} is no member any more"
        elif new.revoked is not None and (old is None or old.revoked is None):
            yield f"{name} is revoked"
        elif old is None or old.invite != new.invite:
            yield f"{name} is invited as {new.role}"
        else:
            yield f"{name} is {new.role} until {when(new.valid_until_s)}{_details(old, new)}"
    yield from _former_changes(before, after)


def _details(old: Member, new: Member) -> str:
    """Say what else changes of somebody whose key stays."""
    lifted = "; the revocation is lifted" if old.revoked is not None and new.revoked is None else ""
    names = {name: (getattr(old, name), getattr(new, name)) for name in ("quota", "display_name", "revoked")}
    changed = [name for name, (then, now) in names.items() if then != now and not (name == "revoked" and lifted)]
    return lifted + "".join(f"; {name.replace('_', ' ')} changes" for name in changed)


def _former_changes(before: Members, after: Members) -> Iterator[str]:
    """Say what changes of invitations that were replaced, but for those that this change replaces or revokes."""
    replaced = {
        (name, old.invite.id)
        for name, old in before.members.items()
        if name in after.members and after.members[name].invite != old.invite
    }
    then, now = _former(before), _former(after)
    for name, invite in sorted(then.keys() | now.keys()):
        old, new = then.get((name, invite)), now.get((name, invite))
        if old == new or (old is None and (name, invite) in replaced and new == before.members[name]):
            continue
        current = after.members.get(name)
        if old and new and current and new == old.model_copy(update={"revoked": current.revoked}) and new.revoked:
            continue  # with the member itself
        yield f"a former invitation of {name} changes: what was signed under it may count, or count no more"


def _former(members: Members) -> dict[tuple[str, str], Member]:
    return {(name, member.invite.id): member for name, member in members.former}


def _rule_changes(before: FederationSettings, after: FederationSettings) -> Iterator[str]:
    """Say what a change says of itself, and what it does not say: who proposes it may lie."""
    if after == before:
        return
    said = before
    if after.change is not None and after.change != before.change:
        yield str(after.change)
        said = _as_said(before, after.change)
    for name in FederationSettings.model_fields:
        then, now = getattr(said, name), getattr(after, name)
        if then != now:
            yield f"NOT SAID BY WHO PROPOSES IT: {name} {str(then)[:200]} → {str(now)[:200]}"


def _as_said(before: FederationSettings, change: SettingsChange) -> FederationSettings:
    """Return the settings as a change would make them by its own words."""
    try:
        return change_settings(
            before, change.new, by=change.by, after_release=change.after_release, now_s=change.changed_at_s
        )
    except ValidationError:
        return before
