"""The journal of one round.

Only the leading aggregator appends, but for a moment there may be two that think they lead. So an append is a compare
and swap of `rounds/<n>/head`, which holds the last entry: whoever swaps it has written entry `seq`, and the other gets
a `ConflictError`. The entry's own object is written after that; if a crash comes between, whoever appends next writes
it first. The journal is thus one sequence without a gap, and every object in it is immutable.

Gateways write `received` entries without asking anybody: they are named by the contribution's digest, so that
committing twice is one entry, and 10,000 contributors do not queue for one pointer.

What a look costs: the leader's entries are counted by the head, so one small read tells whether any is new (`led`),
however many contributions there are. Only who needs `received` entries, which nobody counts, lists them (`state`), and
of a round that is open and has many of them, not at every look.

What the store has damaged is made of what it holds elsewhere: the head of the entries, an entry of what was received
or fused (`recovery`). A lost entry of the leader's keeps its place, and is as if it had never been written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace

from coldfuse.core.round import Abandoned, LeaderEvent, Received, Rejected, RoundState, fold
from coldfuse.errors import ConflictError, StorageError
from coldfuse.registry.chain import Codec, Head, Written
from coldfuse.registry.entries import LOST_REASON, Entries
from coldfuse.registry.led import LedEntries
from coldfuse.registry.listing import Listing
from coldfuse.registry.recovery import complete, is_consistent
from coldfuse.storage.base import ObjectStore


class Journal:
    """Reads and extends one round's journal; threads may share it. What was read once is kept: it cannot change."""

    def __init__(
        self, store: ObjectStore, round_number: int, *, clock: Callable[[], float] = time.monotonic,
        codec: Codec | None = None, before: Callable[[], str | None] = lambda: None,
    ) -> None:  # fmt: skip
        """Take where it lies; nothing is read yet.

        Args:
            store: The federation's store.
            round_number: The round.
            clock: Returns seconds; it never goes back.
            codec: How the leader's entries are written; None: as without a root.
            before: Returns the digest of the newest link of the round before, for the first link of this one.
        """
        self.round = round_number
        self.needs_head = False
        """True if the head was damaged or missing when the state was read, though the round has begun."""
        self._store = store
        self._clock = clock
        self._entries = Entries(store, round_number, codec)
        self._before = before
        self._leader = LedEntries(round_number)
        self._newest: Written | None = None  # the last entry, as its head has it
        self._num_written = 0  # of the leader's entries, those whose objects are known to be there
        self._received: dict[str, Received] = {}
        self._led = self._leader.state  # what the leader's entries add up to, with what was lost of it
        self._is_whole = True
        self._was_abandoned = False  # as a head says
        self._listing = Listing()
        self._folded = (self._led, 0, self._led)
        self._lock = threading.Lock()

    def head(self) -> Head | None:
        """Return the leader's last entry; None before the round is opened.

        A head that is damaged is made of the last entry that can be read.
        """
        head, _, is_damaged = self._entries.read_head()
        if not is_damaged:
            return head.head if head else None
        with self._lock:
            self._read_leader()
            return self._leader.last(is_abandoned=self._is_abandoned())

    def is_abandoned(self) -> bool:
        """Tell whether the round was abandoned; verdicts on late contributions may have followed. One small read."""
        head = self.head()
        if head is None:
            return False
        if head.is_abandoned is not None:
            return head.is_abandoned
        return isinstance(head.entry, Abandoned) or (isinstance(head.entry, Rejected) and bool(self.led().abandoned))

    def append(self, event: LeaderEvent) -> None:
        """Append as the leader. A damaged or missing head is replaced by this entry.

        Raises:
            ConflictError: Another aggregator appended since this journal's `state` was read.
        """
        with self._lock:
            there, etag, is_damaged = self._entries.read_head()
            if there is None:
                self._check_unannounced(is_damaged=is_damaged)
            elif not self._leader.ends_with(there.head):
                wrote = there.head.entry.event
                raise ConflictError(f"round {self.round}: another aggregator wrote {wrote!r} meanwhile")
            elif self._num_written <= there.head.seq:
                self._write_entry(there)
            is_abandoned = isinstance(event, Abandoned) or self._is_abandoned()
            head = Head(seq=len(self._leader), entry=event, is_abandoned=is_abandoned)
            new = self.codec.write(head, before=self._link_before(len(self._leader)))
            self._entries.swap_head(new, etag)
            self._write_entry(new)
            self._newest = new
            self._learn([new])

    def mend_head(self) -> bool:
        """Write the head anew, as the leader, if it is damaged or missing though there are entries; True if it was.

        Raises:
            ConflictError: Another aggregator has done it, or has appended.
        """
        with self._lock:
            head, etag, is_damaged = self._entries.read_head()
            if head is not None:
                return False
            self._check_unannounced(is_damaged=is_damaged)
            last = self._leader.last(is_abandoned=self._is_abandoned())
            if last is None:
                return False
            new = self.codec.write(last, before=self._link_before(last.seq))
            self._entries.swap_head(new, etag)
            self._announced(new)
            self.needs_head = False
            return True

    def signed_entry(self, contribution: str) -> bytes | None:
        """Return the signed entry that holds the verdict on a contribution; None where there is none, or no root."""
        if not self.codec.is_signed:
            return None
        self.led()
        with self._lock:
            head = self._leader.verdict_on(contribution)
        return self._entries.bytes_of(head) if head is not None else None

    def recovered(self, key: str) -> bytes | None:
        """Return what belongs under the key of a damaged entry, if the store says that elsewhere."""
        return self._entries.recovered(key)

    def receive(self, event: Received) -> bool:
        """Record a contribution as a gateway; False if it was recorded before."""
        is_new = self._entries.receive(event)
        if is_new:
            self._received[event.contribution] = event
        return is_new

    def has_received(self, contribution: str) -> bool:
        """Tell whether a contribution was recorded."""
        return contribution in self._received or self._entries.has_received(contribution)

    @property
    def codec(self) -> Codec:
        """How the leader's entries are written."""
        return self._entries.codec

    @property
    def link(self) -> str | None:
        """Digest of the newest link that was read; None where there is none, or nothing is signed."""
        return self._leader.last_digest(len(self._leader))

    def is_by_others(self, keys: Collection[str]) -> bool:
        """Tell whether any entry that was read is signed by another key than these."""
        return not self._leader.signers <= set(keys)

    def newest_link(self) -> str | None:
        """Return the digest of the newest link; None where there is none, or nothing is signed. One small read."""
        head, _, is_damaged = self._entries.read_head()
        if head is not None or not is_damaged:
            return head.digest if head else None
        with self._lock:
            self._read_leader()
            return self.link

    def led(self) -> RoundState:
        """Read what is new of the leader's entries, and fold them; `received` stays empty.

        One small read where nothing is new, and a few in all for every entry, whatever the number of contributions.
        """
        with self._lock:
            self._read_leader()
            return self._whole()

    def state(self, *, max_age_s: float | None = 0.0) -> RoundState:
        """Read what is new, and fold it all. A leader that died before it wrote its last entry is helped out.

        Args:
            max_age_s: The age at which the list of what was received is good enough while the round is open; None:
                for as long as its length demands. The leader's entries are always the newest.
        """
        led = self._list_received(self.led(), max_age_s)
        received = list(self._received.values())  # at once: gateways add entries in other threads
        before, num_received, state = self._folded
        if before is not led or num_received != len(received):
            state = fold(received, onto=led)
            self._folded = (led, len(received), state)
        return state

    def _list_received(self, led: RoundState, max_age_s: float | None) -> RoundState:
        """Read the `received` entries that are new. Once the round has ended, every entry of the leader's asks for it.

        Of what was acknowledged nothing may be missing when the last verdicts are written, even if one listing was
        stale: after `closed` there are as many as there are entries.

        Returns:
            What the leader's entries add up to: with those that the list has and no head announces.
        """
        now_s, last = self._clock(), self._listing
        age_s = last.num_seconds_good if max_age_s is None else max_age_s
        if now_s - last.began_s < age_s and (led.is_open or last.num_leader == len(self._leader)):
            return led
        num_leader, keys = len(self._leader), list(self._entries.keys())
        listed = map(self._entries.contribution_of, keys)
        self._received |= self._entries.read_received([c for c in listed if c is not None and c not in self._received])
        self._listing = Listing(began_s=now_s, num_leader=num_leader, num_keys=len(keys))
        with self._lock:
            if not self._leader:  # no head was there: it is gone, if there are entries
                self._read_unannounced(keys)
                led = self._whole()
            self._help_out(keys)
        return led

    def _help_out(self, keys: list[str]) -> None:
        """Write the last entry of a leader that died before it did; where this store is only read, others will."""
        place, last = len(self._leader) - 1, self._newest
        if place < self._num_written or last is None or last.head.seq != place:
            return
        if self._entries.leader_key(last.head) in keys:
            self._num_written = place + 1
            return
        with suppress(StorageError):
            self._write_entry(last)

    def _read_leader(self) -> None:
        """Read the leader's entries up to the head; where it is damaged or gone, all that are there."""
        head, _, is_damaged = self._entries.read_head()
        if head is not None:
            self.needs_head = False
            if head.head.seq >= len(self._leader):  # an old reply tells nothing new
                self._read_up_to(head.head.seq)
                self._learn([head])
            self._announced(head)
            return
        if is_damaged or self._leader:  # else it has not begun, as far as a look tells that lists nothing
            self._read_unannounced(list(self._entries.keys()))
        self.needs_head = is_damaged or bool(self._leader)

    def _read_up_to(self, end: int) -> None:
        """Read the leader's entries before this place, which are all written."""
        if end > len(self._leader):
            self._learn(self._entries.read_led(range(len(self._leader), end)))
            self._num_written = max(self._num_written, end)

    def _read_unannounced(self, keys: list[str]) -> None:
        """Read the leader's entries that are there, as no head says which is the last."""
        self._read_up_to(self._entries.end(keys))
        self.needs_head |= bool(self._leader)

    def _check_unannounced(self, *, is_damaged: bool) -> None:
        if (is_damaged or self._leader) and self._entries.end(list(self._entries.keys())) > len(self._leader):
            raise ConflictError(f"round {self.round}: another aggregator has written meanwhile")

    def _announced(self, written: Written) -> None:
        """Take what a head says of what is lost: the entry in its own place, and that the round was abandoned."""
        head, self._newest = written.head, written
        self._was_abandoned |= bool(head.is_abandoned)
        if head.seq < len(self._leader) and self._leader.find(written):
            self._learn([])

    def _learn(self, written: Sequence[Written | None]) -> None:
        self._leader.learn(written)
        self._led = self._leader.state
        self._is_whole = None not in self._leader.entries and is_consistent(self._led)

    def _whole(self) -> RoundState:
        """Return what the leader's entries add up to, with what was lost of it."""
        if not self._is_whole:
            self._led = complete(self._store, self._leader.state)
        if self._was_abandoned and self._led.abandoned is None:
            self._led = replace(self._led, abandoned=Abandoned(reason=LOST_REASON))
        return self._led

    def _is_abandoned(self) -> bool:
        return self._was_abandoned or self._leader.state.abandoned is not None

    def _link_before(self, place: int) -> str | None:
        """Return what the link in a place names as the one before it; for the first it is of the round before."""
        return (self._leader.last_digest(place) or self._before()) if self.codec.is_signed else None

    def _write_entry(self, head: Written) -> None:
        self._entries.write(head)
        self._num_written = head.head.seq + 1
