"""A round's events in words."""

from __future__ import annotations

from coldfuse.core.damage import Damaged
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
        case _:
            return _describe_contributions(event)


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
