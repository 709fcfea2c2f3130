"""Asking evaluators about a candidate: who may be asked, how they find it, and what they have said."""

from __future__ import annotations

from coldfuse.core.gate_asking import may_ask
from coldfuse.core.gate_rules import MAX_EVALUATORS, GateRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import RoundState
from coldfuse.errors import FederationError
from coldfuse.registry.channels import CANDIDATE
from coldfuse.registry.federation import Federation
from coldfuse.registry.releases import channel_to
from coldfuse.registry.scores import Waiting, Word, read_scores
from coldfuse.trust.members import MemberRole


def members_of(federation: Federation, role: MemberRole) -> tuple[str, ...]:
    """Return the names of the members of this role, who are such now; none in federations without a root."""
    if federation.trust is None:
        return ()
    members, now_s = federation.trust.refresh().members.members, federation.now_s()
    names = [
        name
        for name, one in sorted(members.items())
        if one.role == role and one.revoked is None and now_s <= one.valid_until_s
    ]
    return tuple(names[:MAX_EVALUATORS])


def may_ask_now(federation: Federation, state: RoundState, rules: GateRules, *, number: int) -> bool:
    """Tell whether evaluators may be asked about one more candidate in a round, by how often they were of late.

    Args:
        federation: The federation.
        state: What the round's journal adds up to.
        rules: The rules of the round.
        number: The round's number.
    """
    asked = [number] * state.gating.num_asked
    for before in range(max(number - rules.per_rounds + 1, 1), number):
        asked += [before] * federation.journal(before).led().gating.num_asked
    return may_ask(rules, asked, round_number=number)[0]


def point_to(federation: Federation, candidate: ReleaseManifest) -> None:
    """Have the channel `candidate` point to a candidate; doing so again is success.

    Raises:
        ConflictError: Another aggregator has written it meanwhile.
        NotAllowedError: This aggregator may not sign it.
    """
    target = channel_to(candidate)
    federation.require_signer()
    signer = federation.signer.aggregator if federation.signer else None
    try:
        there = federation.pointers.read(CANDIDATE, forgives=True)
    except FederationError:
        federation.pointers.write(CANDIDATE, target, None, signer)
        return
    if there.channel.manifest != target.manifest or there.is_damaged:
        federation.pointers.write(CANDIDATE, target, there, signer)


def heard(federation: Federation, asked: tuple[str, ...], waiting: Waiting) -> list[Word]:
    """Return what those who were asked have said of a candidate, and operators who were not."""
    if federation.trust is None:
        return []
    names = {*asked, *members_of(federation, "operator")}
    return read_scores(federation.store, federation.trust, names, waiting=waiting, now_s=federation.now_s())
