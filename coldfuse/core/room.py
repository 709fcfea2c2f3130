"""How many contributions are looked at, where an aggregator has room for so many."""

from __future__ import annotations

from dataclasses import replace

from coldfuse.core.round import RoundState


def within(state: RoundState, *, most: int, at_once: int) -> RoundState:
    """Return what a look at a round may see of it: of those that wait, the first that there is room for.

    Args:
        state: What the round's journal adds up to.
        most: Number of contributions that the round's leader can fuse; more are not admitted.
        at_once: Number of contributions that are judged in one look, so that nobody's verdict waits for all others.

    Returns:
        The round without those who have to wait; they are in it for the next look, or are late once it has closed.
    """
    room = max(min(most - len(state.admitted) - len(state.held), at_once), 0)
    hidden = {received.contribution for received in state.waiting[room:]}
    if not hidden:
        return state
    return replace(state, received={digest: r for digest, r in state.received.items() if digest not in hidden})


def is_full(state: RoundState, *, most: int) -> bool:
    """Tell whether a round has all that its leader can fuse, so that waiting for more makes no sense."""
    return len(state.admitted) >= most and not (state.is_refused and len(state.admitted) == len(state.carried))
