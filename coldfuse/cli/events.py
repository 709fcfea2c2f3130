"""A round's events in words."""

from __future__ import annotations

from coldfuse.core.damage import Damaged
from coldfuse.core.gate_rules import SuiteCounts
from coldfuse.core.gating import Asked, Evaluated, Tried, Weighed
from coldfuse.core.names import shown
from coldfuse.core.round import Abandoned, Admitted, Closed, Fused, Held, LeaderEvent, Opened, Published, Rejected
from coldfuse.core.words import plural


def describe(event: LeaderEvent) -> list[str]:
    """Say what happened, one line a fact."""
    match event:
        case Opened():
            carried = f", {len(event.carried)} contributions carried over" if event.carried else ""
            return [f"opened on release {event.base_release}{carried}"]
        case Closed() | Abandoned():
            return [f"{event.event}: {event.reason}"]
        case Fused():
            moved = "" if event.moved is None else f", {event.moved:.2%} of the elements moved"
            return [f"fused: model {event.model_digest}{moved}"]
        case Published():
            return [f"published release {event.release}"]
        case Asked() | Tried() | Evaluated() | Weighed():
            return _describe_gate(event)
        case _:
            return _describe_contributions(event)


def _describe_gate(event: Asked | Tried | Evaluated | Weighed) -> list[str]:
    match event:
        case Asked():
            missed = ", ".join(f"{name} ({count})" for name, count in sorted((event.missed or {}).items())[:8])
            silent = f"; rounds without an answer: {missed}" if missed else ""
            return [f"asked {plural(len(event.evaluators), 'evaluator')}: {', '.join(event.evaluators[:8])}{silent}"]
        case Tried():
            counts = "; ".join(map(describe_counts, event.counts))
            what = "scored for weights" if event.for_weights else "tried"
            return [f"{what}: {plural(len(event.contributions), 'contribution')} of it alone: {counts}"]
        case Weighed():
            return [f"weights by score: {event.reason}"]
        case Evaluated():
            verdict = "passed" if event.decision.publish else "failed"
            suites = [f"suite {describe_counts(one)}" for one in event.counts]
            return [*suites, f"gate {verdict}: {event.decision.reason}", *event.decision.flags]


def describe_counts(counts: SuiteCounts) -> str:
    """Say what a suite says of a candidate.

    >>> describe_counts(SuiteCounts(suite="mood", evaluator="eva", num_examples=200, only_before=3, only_after=7))
    'mood (eva): 3 right only before, 7 only after, of 200 examples'
    """
    who = f" ({counts.evaluator})" if counts.evaluator is not None else ""
    return (
        f"{counts.suite}{who}: {counts.only_before:,} right only before, {counts.only_after:,} only after, of "
        f"{plural(counts.num_examples, 'example')}"
    )


def _describe_contributions(event: Admitted | Held | Rejected | Damaged) -> list[str]:
    match event:
        case Admitted():
            return [
                f"admitted {shown(a.contributor, a.display_name)} ({plural(a.num_examples, 'example')})"
                for a in event.admissions
            ]
        case Held():
            return [
                f"held {shown(a.contributor, a.display_name)}: long beside the others, judged when the round closes"
                for a in event.admissions
            ]
        case Rejected():
            return [f"rejected {shown(r.contributor, r.display_name)}: {r.reason}" for r in event.rejections]
        case Damaged():
            return [f"damaged in the store: {d.names} of {d.contribution[:12]}; {d.reason}" for d in event.damages]
