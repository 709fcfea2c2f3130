"""The journal of a round: a chain of signed entries, each of which names the one before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from coldfuse.core.federation import FederationSettings
from coldfuse.core.round import EVENT, LeaderEvent, Received, RoundState, fold
from coldfuse.core.sealed import unseal, unsealed
from coldfuse.core.serialization import decode_any, sha256
from coldfuse.errors import CodecError, TrustError
from coldfuse.registry.entries import Head
from coldfuse.storage.base import list_keys
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.signers import Signers

_LEADERS = re.compile(r"([0-9]{8})-([a-z-]+)")
_RECEIVED = re.compile(r"([0-9a-f]{64})-received")


@dataclass(frozen=True, kw_only=True)
class SeenRound:
    """A round, as its journal has it."""

    number: int
    events: tuple[LeaderEvent, ...]
    """The leader's entries, in order."""
    state: RoundState
    """What all entries add up to."""
    chain: tuple[str, ...] = ()
    """SHA-256 of each of the leader's entries, as they are stored."""


@dataclass(frozen=True)
class Journals:
    """Looks at the journals of one federation."""

    look: Inspection
    settings: FederationSettings
    signers: Signers | None

    def read(self, number: int, *, before: str | None) -> SeenRound:
        """Look at the journal of a round.

        Args:
            number: Number of the round.
            before: SHA-256 of the last entry of the round before; None where nothing names it.
        """
        folder = f"rounds/{number:05d}/journal/"
        led: list[tuple[int, str]] = []
        received: list[Received] = []
        for key in list_keys(self.look.store, folder):
            name = key.removeprefix(folder)
            if match := _LEADERS.fullmatch(name):
                led.append((int(match[1]), key))
            elif match := _RECEIVED.fullmatch(name):
                received += self._received(key, match[1])
            else:
                self.look.add(Cause.CONTRADICTION, key, "is no entry of a journal")
        events, chain = self._entries(number, sorted(led), before)
        self._look_at_head(number, events, chain)
        self.look.looked_at["rounds"] += 1
        return SeenRound(number=number, events=events, state=fold([*received, *events]), chain=chain)

    def _entries(
        self, number: int, led: Sequence[tuple[int, str]], before: str | None
    ) -> tuple[tuple[LeaderEvent, ...], tuple[str, ...]]:
        events: list[LeaderEvent] = []
        chain: list[str] = []
        for place, (seq, key) in enumerate(led):
            if seq != place:
                what = "two entries have one place" if seq < place else "an entry before it is missing"
                self.look.add(Cause.GAP, key, f"{what}: the journal of round {number} has no gaps and no branches")
            data = self.look.read(key) or b""
            self.look.looked_at["entries of journals"] += 1
            event = self._entry(number, key, data, before)
            before = sha256(data)
            chain.append(before)
            if event is None:
                continue
            if event.event != key.rpartition("-")[2]:
                self.look.add(Cause.CONTRADICTION, key, f"holds {event.event}, which is not what its name says")
            events.append(event)
        return tuple(events), tuple(chain)

    def _entry(self, number: int, key: str, data: bytes, before: str | None) -> LeaderEvent | None:
        """Return the leader's entry under a key, verified as far as it has to be; None, and why is noted, otherwise."""
        try:
            event = unsealed(data, lambda: decode_any(EVENT, data, what=key), what=key)
        except (TrustError, CodecError) as error:
            self.look.error(key, error)
            return None
        if isinstance(event, Received):
            self.look.add(Cause.CONTRADICTION, key, "holds what only a gateway writes")
            return None
        return event

    def _received(self, key: str, contribution: str) -> list[Received]:
        data = self.look.read(key)
        self.look.looked_at["entries of journals"] += 1
        with self.look.noting(key):
            event = unseal(Received, data or b"", what=key)
            if event.contribution == contribution:
                return [event]
            self.look.add(Cause.CONTRADICTION, key, f"is about contribution {event.contribution[:12]}")
        return []

    def _look_at_head(self, number: int, events: Sequence[LeaderEvent], chain: Sequence[str]) -> None:
        key = f"rounds/{number:05d}/head"
        data = self.look.read(key)
        if data is None:
            if chain:
                self.look.add(Cause.GAP, key, "is missing: nobody knows which entry was the last")
            return
        with self.look.noting(key):
            head = unseal(Head, data, what=key)
            if head.seq >= len(chain):
                self.look.add(Cause.GAP, key, f"names entry {head.seq} as the last, and there are {len(chain)}")
            elif head.seq < len(chain) - 1:
                self.look.add(Cause.ROLLED_BACK, key, f"names entry {head.seq} as the last, and there are later ones")
            elif events and head.entry != events[-1]:
                self.look.add(Cause.CONTRADICTION, key, "holds another entry than the last of the journal")
