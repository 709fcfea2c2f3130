"""What a round that is opened takes from the one before it."""

from __future__ import annotations

from collections.abc import Sequence

from coldfuse.core.gate_rules import GateRules
from coldfuse.core.past import ActiveContributor, PastRound
from coldfuse.core.round import RoundState
from coldfuse.registry.federation import Federation


def awaited(federation: Federation, active: tuple[ActiveContributor, ...]) -> tuple[ActiveContributor, ...]:
    """Leave out who was revoked: a round would wait in vain for them."""
    if federation.trust is None or not active:
        return active
    members = federation.trust.refresh().members.members
    return tuple(one for one in active if (who := members.get(one.contributor)) is None or who.revoked is None)


def refused_by(federation: Federation, before: RoundState) -> str | None:
    """Return the method that has refused exactly what an abandoned round admitted."""
    if before.opened is not None and before.opened.retraction is not None:
        return None
    if before.damages or before.fused is not None:  # it was the store's fault, or the gate's
        return None
    if before.closed is not None:
        terms = before.opened.terms if before.opened else None
        return None if before.gating.evaluations else federation.settings.under(terms).method
    if before.opened is not None and len(before.opened.carried) == len(before.admitted):  # nothing new came
        return before.opened.refused_by
    return None


def refused_at_gate(federation: Federation, before: RoundState) -> GateRules | None:
    """Return the rules of the gate by which exactly what an abandoned round admitted has failed."""
    if before.fused is not None and before.gating.has_failed(before.fused.manifest):
        return federation.settings.under(before.opened.terms if before.opened else None).gate
    if before.opened is not None and before.closed is None and len(before.opened.carried) == len(before.admitted):
        return before.opened.refused_gate
    return None


def on_line(past: Sequence[PastRound], release: int) -> tuple[PastRound, ...]:
    """Return those past rounds whose base the release was made of: what was rolled back is no base for anybody."""
    return tuple(one for one in past if one.base_release <= release)
