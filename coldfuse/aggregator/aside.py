"""What a leader does beside its rounds, and what never holds one up: `stable` follows, and others are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from coldfuse.aggregator.soaking import Soaking
from coldfuse.core.gating import Evaluated
from coldfuse.core.release import Channel
from coldfuse.core.round import Abandoned, Closed, LeaderEvent, Published
from coldfuse.registry.federation import Federation
from coldfuse.webhooks import Outbox, Outgoing, open_outbox

_LOOK_S = 30.0
"""Seconds between two looks at the settings while nothing happens."""


class Aside:
    """Follows one leader."""

    def __init__(self, federation: Federation, outbox: Outbox) -> None:
        self._federation, self._outbox, self._soaking = federation, outbox, Soaking()
        self._seen: Channel | None = None
        self._next_s = float("-inf")

    def look(self, pointer: Channel) -> None:
        """Take up where `latest` points now, and once in a while what operators have set.

        Raises:
            ConflictError: Another aggregator moves `stable`.
            StorageError: The store is away.
        """
        now_s = self._federation.now_s()
        self._soaking.look(self._federation, pointer)
        if pointer != self._seen or now_s >= self._next_s:
            self._seen, self._next_s = pointer, now_s + _LOOK_S
            self._outbox.renew(self._federation.reopened())

    def tell(self, event: LeaderEvent) -> None:
        """Tell others soon of what a journal says by now."""
        if isinstance(event, Closed | Evaluated | Published | Abandoned):
            self._outbox.renew(self._federation.reopened())


@contextmanager
def beside(federation: Federation, outgoing: Outgoing) -> Iterator[Aside]:
    """Yield what goes on beside rounds for as long as the block lasts."""
    with open_outbox(federation, outgoing) as outbox:
        yield Aside(federation, outbox)
