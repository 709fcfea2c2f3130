"""The rules of a federation, as a status says them on the wire."""

from __future__ import annotations

from typing import get_args

from pydantic import ValidationError

from coldfuse.core.federation import Close, Late, RoundRules
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.scored_weights import Weighting
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import TransportError
from coldfuse.transport.pb import gateway_pb2 as pb

_KNOWN_RULES = {"close": get_args(Close), "late": get_args(Late)}


def read_rules(message: pb.RoundRules) -> RoundRules:
    """Take the rules by which rounds close off the wire. Raises `TransportError` if no federation can have them."""
    said: dict[str, object] = {"quorum": message.quorum, "deadline_s": message.deadline_s}
    for field, value in message.ListFields():  # an older gateway says nothing of the others, a newer one may say more
        if field.name not in _KNOWN_RULES or value in _KNOWN_RULES[field.name]:
            said[field.name] = value
    try:
        return RoundRules.model_validate(said)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise TransportError(
            f"the gateway's rules are none: {problem['loc'][0]} {problem['input']!r}: {problem['msg']}"
        ) from None


def read_statistics(message: pb.GetStatusResponse) -> StatisticsRule:
    """Return what is wanted beside deltas; what only a newer version knows cannot be brought, and is not asked for."""
    said = message.statistics
    try:
        return StatisticsRule.model_validate({"kind": said.kind, "presence": said.presence or "require"})
    except ValidationError:
        return StatisticsRule()


def write_gate(rules: GateRules) -> pb.GateRules:
    """Put the rules of a gate on the wire."""
    weights = {each.suite: each.weight for each in rules.weights}
    return pb.GateRules(**rules.model_dump(exclude={"weights"}), weights=weights)


def read_gate(message: pb.GateRules) -> GateRules | None:
    """Take the rules of a gate off the wire; None of ones that only a newer version knows."""
    said: dict[str, object] = {
        name: getattr(message, name)
        for name in GateRules.model_fields
        if name != "weights" and (name not in _MAY_BE_UNSET or message.HasField(name))
    }
    weights = [{"suite": suite, "weight": weight} for suite, weight in message.weights.items()]
    try:
        return GateRules.model_validate(said | {"weights": weights})
    except ValidationError:
        return None


_MAY_BE_UNSET = ("on_one", "max_missed", "efficacy", "generality")


def read_weighting(message: pb.GetStatusResponse) -> Weighting | None:
    """Return what contributions are scored by; None where by nothing, or by what only a newer version knows."""
    known: tuple[Weighting, ...] = get_args(Weighting)
    return next((each for each in known if message.HasField("weighting") and message.weighting == each), None)
