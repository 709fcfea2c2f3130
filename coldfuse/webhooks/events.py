"""What there is to tell of a federation, in order, as CloudEvents: it follows from the journals and the channel alone.

The same thing has the same id and the same bytes whoever tells it and however often, so that a receiver knows what it
has had already. Source: CloudEvents 1.0, https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from coldfuse.core.gate_rules import GateRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.rollback import Rollback
from coldfuse.core.round import RoundState
from coldfuse.core.serialization import canonical_json, sha256

CLOSED, GATE_FAILED, RELEASED = "coldfuse.round.closed", "coldfuse.gate.failed", "coldfuse.release.published"
DISPUTED = "coldfuse.gate.disputed"
ROLLED_BACK = "coldfuse.channel.rolledback"

Place = tuple[int, int]
"""Number of a round, and what has happened in it: what is told later has a greater one."""

_CLOSED, _FIRST_FAILURE, _DISPUTED, _RELEASED, OVER = 1, 2, 800, 900, 1000
"""The second parts of places: that a round was closed, that its gate refused a candidate, and another one, and so on,
that one member warns of what is published, that it made a release, and what comes after all that a round tells."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something that others are told."""

    federation: str
    """Name of the federation that no other has."""
    type: str
    subject: str
    """What it is about: `rounds/12`, `releases/11` or `channels/latest`."""
    data: Mapping[str, object]
    round: int
    """Number of the round that it belongs to, or that was the last before it."""
    step: int
    """Its place among what that round tells; `OVER` for a step back."""
    rollback: int = 0
    """Number of the step back; 0 for what rounds tell."""
    at_s: float | None = None
    """Seconds since 1970 when it happened, where somebody has noted that."""

    @property
    def id(self) -> str:
        """Its id, the same whoever tells it."""
        named = canonical_json([self.federation, self.type, self.round, self.step, self.rollback])
        return f"msg_{sha256(named)[:32]}"

    def body(self) -> bytes:
        """Return it as a CloudEvent in JSON."""
        event: dict[str, object] = {
            "specversion": "1.0", "id": self.id, "source": f"urn:coldfuse:{self.federation}", "type": self.type,
            "subject": self.subject, "datacontenttype": "application/json", "data": dict(self.data),
        }  # fmt: skip
        if (moment := _moment(self.at_s)) is not None:
            event["time"] = moment
        return canonical_json(event)


def notices_of(federation: str, number: int, state: RoundState, made: ReleaseManifest | None) -> Iterator[Notice]:
    """Yield what a round tells, in order.

    Args:
        federation: Name of the federation that no other has.
        number: Number of the round.
        state: What its leader's entries add up to.
        made: The release that it has made; None where it has made none, or that cannot be read.
    """
    subject = f"rounds/{number}"
    if state.closed is not None:
        data = {"round": number, "contributions": len(state.closed.contributions), "reason": state.closed.reason}
        yield Notice(federation=federation, type=CLOSED, subject=subject, data=data, round=number, step=_CLOSED)
    for step, failed in enumerate(
        (one for one in state.gating.evaluations if not one.decision.publish), _FIRST_FAILURE
    ):
        data = {"round": number, "candidate": failed.manifest, "reason": failed.decision.reason}
        yield Notice(federation=federation, type=GATE_FAILED, subject=subject, data=data, round=number, step=step)
    if state.published is not None and (warning := state.gating.warning(_rules(state))) is not None:
        data = {"round": number, "candidate": warning.manifest, "reason": warning.decision.reason}
        yield Notice(federation=federation, type=DISPUTED, subject=subject, data=data, round=number, step=_DISPUTED)
    if state.published is not None:
        release = state.published.release
        facts = _facts(made) if made is not None else {}
        yield Notice(
            federation=federation, type=RELEASED, subject=f"releases/{release}", round=number, step=_RELEASED,
            data={"round": number, "release": release} | facts, at_s=made.created_at_s if made else None,
        )  # fmt: skip


def _rules(state: RoundState) -> GateRules | None:
    return state.opened.terms.gate if state.opened is not None and state.opened.terms is not None else None


def notice_of(federation: str, rollback: Rollback) -> Notice:
    """Return what a step back tells."""
    data = {
        "release": rollback.release, "left": rollback.left, "reason": rollback.reason, "by": rollback.by,
        "last_round": rollback.round,
    }  # fmt: skip
    return Notice(
        federation=federation, type=ROLLED_BACK, subject="channels/latest", data=data, round=rollback.round, step=OVER,
        rollback=rollback.number, at_s=rollback.at_s,
    )  # fmt: skip


def _facts(made: ReleaseManifest) -> dict[str, object]:
    return {
        "parent": made.parent, "model_digest": made.model_digest, "contributions": len(made.contributions),
        "method": made.method,
    }  # fmt: skip


def _moment(at_s: float | None) -> str | None:
    try:
        return None if at_s is None else datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # what a clock said: the year 300000
        return None
