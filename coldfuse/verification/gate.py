"""Whether what was published has passed its round's gate, and whether each decision follows from its counts."""

from __future__ import annotations

from collections.abc import Iterator

from coldfuse.core.gate import GateDecision, GateRules, decide
from coldfuse.core.gating import Evaluated, Weighed
from coldfuse.core.round import Fused, Published, RoundState, fold
from coldfuse.core.scored_weights import Weighting, weigh
from coldfuse.verification.causes import Cause
from coldfuse.verification.journals import SeenRound


def gate_problems(round_: SeenRound) -> Iterator[tuple[Cause, str]]:
    """Return what does not agree in what a journal says of its gate.

    Args:
        round_: The round, as its journal has it.
    """
    opened = round_.state.opened
    terms = opened.terms if opened is not None and opened.retraction is None else None  # no gate can refuse that
    rules = (terms.gate if terms else None) or GateRules.off()
    decided: dict[str, GateDecision] = {}
    candidate: Fused | None = None
    for event in round_.events:
        if isinstance(event, Fused):
            candidate = event
        elif isinstance(event, Evaluated):
            yield from _of_decision(event, candidate, rules)
            decided.setdefault(event.manifest, event.decision)
        elif isinstance(event, Published) and rules.is_on and candidate is not None:
            found = decided.get(candidate.manifest)
            if found is None:
                yield Cause.GAP, "was published, and nothing says that it has passed the gate"
            elif not found.publish:
                yield Cause.CONTRADICTION, f"was published, and the gate has refused it: {found.reason}"


def _of_decision(event: Evaluated, candidate: Fused | None, rules: GateRules) -> Iterator[tuple[Cause, str]]:
    if candidate is None or event.manifest != candidate.manifest:
        yield Cause.CONTRADICTION, f"the gate has decided on {event.manifest[:12]}, which was not fused just before"
    right = decide(rules, event.counts)
    if (right.publish, right.finding) != (event.decision.publish, event.decision.finding):
        yield (
            Cause.CONTRADICTION,
            f"the gate says {event.decision.finding} ({_does(event.decision)}), and by its rules and counts it is "
            f"{right.finding} ({_does(right)}): {right.reason}",
        )


def _does(decision: GateDecision) -> str:
    return "published" if decision.publish else "kept back"


def weighing_problems(round_: SeenRound) -> Iterator[tuple[Cause, str]]:
    """Return what does not agree in what a journal says of weights by score: the factors follow from the counts.

    Args:
        round_: The round, as its journal has it.
    """
    terms = round_.state.opened.terms if round_.state.opened is not None else None
    wanted: Weighting = (terms.weighting if terms else None) or "none"
    for place, event in enumerate(round_.events):
        if isinstance(event, Weighed):
            yield from _of_weights(event, fold(round_.events[:place]), wanted)
            return
        if isinstance(event, Fused) and wanted != "none":
            yield Cause.GAP, "was fused, and nothing says what its contributions weigh by their scores"
            return


def _of_weights(event: Weighed, before: RoundState, wanted: Weighting) -> Iterator[tuple[Cause, str]]:
    if event.weighting != wanted:
        yield Cause.CONTRADICTION, f"weighs by {event.weighting}, and its rules say {wanted}"
        return
    right, why = weigh(wanted, before.to_fuse, before.gating.scored)
    if dict(event.factors) != right:
        said = ", ".join(f"{factor:g}" for factor in event.factors.values())[:200] or "none"
        yield Cause.CONTRADICTION, f"its weights by score are {said}, and by its counts they are others: {why}"
