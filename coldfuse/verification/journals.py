"""The journal of a round: a chain of signed entries, each of which names the one before it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from coldfuse.core.federation import FederationSettings
from coldfuse.core.round import EVENT, LeaderEvent, Opened, Received, RoundState, fold
from coldfuse.core.sealed import unseal, unsealed
from coldfuse.core.serialization import decode_any, sha256
from coldfuse.errors import CodecError, TrustError
from coldfuse.registry.chain import Head, read_link
from coldfuse.storage.base import list_keys
from coldfuse.trust.view import SKEW_S
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.rules import is_envelope
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
    """What each of the leader's entries is named by in the one after it."""


@dataclass(frozen=True)
class _Entry:
    """One entry of the leader's, as it was read."""

    event: LeaderEvent
    seq: int | None
    """The place that it says it has; None where it says none."""
    digest: str
    """What the entry after it names it by."""
    before: str | None = None
    """What it names the entry before it by."""
    root: int = 0
    """Version of the newest root whose aggregator has signed it."""


@dataclass(frozen=True)
class Journals:
    """Looks at the journals of one federation."""

    look: Inspection
    settings: FederationSettings
    signers: Signers | None

    def read(self, number: int, *, before: SeenRound | None, is_alone: bool = False) -> SeenRound:
        """Look at the journal of a round.

        Args:
            number: Number of the round.
            before: The round before; None where there is none.
            is_alone: Whether nothing is known of the round before.
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
        entries = list(self._entries(number, sorted(led)))
        entries += self._head(number, len(led), dict(entries))
        if self._is_signed(number):
            first = tuple(one.before for _, one in entries[:1]) if is_alone else self._links_of(before)
            entries = self._linked(number, entries, first)
        self.look.looked_at["rounds"] += 1
        events = tuple(entry.event for _, entry in entries)
        chain = tuple(entry.digest for _, entry in entries)
        return SeenRound(number=number, events=events, state=fold([*received, *events]), chain=chain)

    def _is_signed(self, number: int) -> bool:
        return self.signers is not None and self.settings.is_signed_round(number)

    def _entries(self, number: int, led: Sequence[tuple[int, str]]) -> Iterator[tuple[str, _Entry]]:
        for place, (seq, key) in enumerate(led):
            if seq != place:
                what = "two entries have one place" if seq < place else "an entry before it is missing"
                self.look.add(Cause.GAP, key, f"{what}: the journal of round {number} has no gaps and no branches")
            data = self.look.read(key) or b""
            self.look.looked_at["entries of journals"] += 1
            entry = self._open(number, key, data, is_head=False)
            if entry is None:
                continue
            if key.rpartition("/")[2] != f"{entry.seq if entry.seq is not None else seq:08d}-{entry.event.event}":
                self.look.add(Cause.CONTRADICTION, key, f"holds entry {entry.seq}, {entry.event.event}: put elsewhere")
            yield key, entry

    def _open(self, number: int, key: str, data: bytes, *, is_head: bool) -> _Entry | None:
        """Return what the leader has written under a key; None, and why is noted, where that is not believed."""
        try:
            if self._is_signed(number):
                return self._open_link(number, key, data)
            if is_head:
                head = unseal(Head, data, what=key)
                return _Entry(head.entry, head.seq, sha256(data))
            event = unsealed(data, lambda: decode_any(EVENT, data, what=key), what=key)
        except (TrustError, CodecError) as error:
            self.look.error(key, error)
            return None
        if isinstance(event, Received):
            self.look.add(Cause.CONTRADICTION, key, "holds what only a gateway writes")
            return None
        return _Entry(event, None, sha256(data))

    def _open_link(self, number: int, key: str, data: bytes) -> _Entry | None:
        if self.signers is None or not is_envelope(self.look, data, key):
            return None
        payload, root = self.signers.verified(data, "journal", "aggregator", what=key)
        link = read_link(payload, what=key)
        if (link.federation, link.round) != (self.signers.fingerprint, number):
            self.look.add(
                Cause.CONTRADICTION, key, f"is of round {link.round} of {link.federation[:12]}, put elsewhere"
            )
            return None
        self.look.looked_at["signatures of journals"] += 1
        return _Entry(link.entry, link.seq, sha256(payload), link.before, root.version)

    def _links_of(self, before: SeenRound | None) -> Collection[str | None]:
        """Return what the first entry of a round may name: any entry of the round before."""
        return before.chain if before and self._is_signed(before.number) else (None,)

    def _linked(
        self, number: int, entries: Sequence[tuple[str, _Entry]], first: Collection[str | None]
    ) -> list[tuple[str, _Entry]]:
        """Return the entries that follow one another; those that a later one passes over count for nothing.

        Every entry names the one before it, and is signed by who may, no earlier than that one's signer. A leader that
        finds an entry damaged decides anew what it said, and passes it over if it comes back.
        """
        kept: list[tuple[str, _Entry]] = []
        places: dict[str | None, int] = {}
        for key, entry in entries:
            place = places.get(entry.before)
            if place is not None and place < len(kept) and kept[place][1].digest == entry.before:
                if passed := len(kept) - 1 - place:
                    self.look.note(f"{key}: passes over {passed} entries before it, which count for nothing")
                    del kept[-passed:]
            elif kept or entry.before not in first:
                self.look.add(Cause.GAP, key, f"does not follow the entry before it in the journal of round {number}")
            places[entry.digest] = len(kept)
            kept.append((key, entry))
        self._look_at_keys(kept)
        return kept

    def _look_at_keys(self, entries: Sequence[tuple[str, _Entry]]) -> None:
        root, opened_s = 0, float("-inf")
        for key, entry in entries:
            opened_s = entry.event.opened_at_s if isinstance(entry.event, Opened) else opened_s
            ended_s = self.signers.ended_s(entry.root) if self.signers else None
            if entry.root < root or (ended_s is not None and opened_s > ended_s + SKEW_S):
                self.look.add(Cause.REVOKED, key, f"is signed by a key that is no aggregator's since root {root}")
            root = max(root, entry.root)

    def _received(self, key: str, contribution: str) -> list[Received]:
        data = self.look.read(key)
        self.look.looked_at["entries of journals"] += 1
        event = self.look.unseal(Received, data or b"", key=key)
        if event is not None and event.contribution != contribution:
            self.look.add(Cause.CONTRADICTION, key, f"is about contribution {event.contribution[:12]}")
            return []
        return [event] if event is not None else []

    def _head(
        self, number: int, num_entries: int, entries: Mapping[str, _Entry]
    ) -> Iterator[tuple[str, _Entry]]:  # fmt: skip
        """Look at what a head says is the last entry; yield it where its leader could not write that any more."""
        key = f"rounds/{number:05d}/head"
        data = self.look.read(key)
        if data is None:
            if num_entries:
                self.look.add(Cause.GAP, key, "is missing: nobody knows which entry was the last")
            return
        head = self._open(number, key, data, is_head=True)
        if head is None or head.seq is None:
            return
        last = entries.get(f"rounds/{number:05d}/journal/{head.seq:08d}-{head.event.event}")
        if head.seq == num_entries:
            self.look.note(f"round {number}: its leader ended before it wrote entry {head.seq}, which the head has")
            yield key, head
        elif head.seq > num_entries:
            self.look.add(Cause.GAP, key, f"names entry {head.seq} as the last, and there are {num_entries}")
        elif head.seq < num_entries - 1:
            self.look.add(Cause.ROLLED_BACK, key, f"names entry {head.seq} as the last, and there are later ones")
        elif last is None or last.event != head.event or (self._is_signed(number) and last.digest != head.digest):
            self.look.add(Cause.CONTRADICTION, key, "holds another entry than the last of the journal")
