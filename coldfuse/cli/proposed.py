"""What a change would change, in words, for operators who are asked to sign it."""

from __future__ import annotations

from collections.abc import Iterator

from coldfuse.api.values import when
from coldfuse.cli.holding import Holding
from coldfuse.core.federation import FederationSettings
from coldfuse.registry.proposals import Document, Proposal
from coldfuse.trust.members import Members
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
            yield f"{name} is {new.role} until {when(new.valid_until_s)}"


def _rule_changes(before: FederationSettings, after: FederationSettings) -> Iterator[str]:
    if after != before:
        yield str(after.change) if after.change else "the settings change"
