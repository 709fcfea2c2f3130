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
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from os.path import commonprefix

from coldfuse.core.round import EVENT, Abandoned, Event, LeaderEvent, Received, Rejected, RoundState, fold
from coldfuse.core.serialization import decode, decode_any, encode
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, ConflictError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import ObjectStore

_PARALLEL_READS = 16
"""Entries that are read at a time: after a takeover there may be ten thousand."""

_S_PER_PAGE = 0.5
"""Seconds for which a listing of an open round counts, for each page of it after the first. So a round of ten thousand
is listed every five seconds, and what listing costs does not grow with the square of the contributors."""

_PAGE_KEYS = 1000
_RECEIVED = "-received"


class Head(Value):
    """The last entry, and its place in the sequence."""

    seq: int
    """Place of the entry in the leader's sequence, from 0."""
    entry: LeaderEvent
    is_abandoned: bool | None = None
    """Whether the round was abandoned, by this entry or by one before; None: an older version wrote it."""


@dataclass(frozen=True)
class _Listing:
    """When the `received` entries were listed, and how many keys that brought."""

    began_s: float = float("-inf")
    num_leader: int = 0
    num_keys: int = 0

    @property
    def num_seconds_good(self) -> float:
        return _S_PER_PAGE * (self.num_keys // _PAGE_KEYS)


class Journal:
    """Reads and extends one round's journal; threads may share it. What was read once is kept: it cannot change."""

    def __init__(self, store: ObjectStore, round_number: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.round = round_number
        self._store = store
        self._clock = clock
        self._folder = f"rounds/{round_number:05d}/journal/"
        self._head_key = f"rounds/{round_number:05d}/head"
        self._leader: list[LeaderEvent] = []
        self._num_written = 0  # of the leader's entries, those whose objects are known to be there
        self._received: dict[str, Received] = {}
        self._led = RoundState()
        self._listing = _Listing()
        self._folded = (self._led, 0, self._led)
        self._lock = threading.Lock()

    def head(self) -> Head | None:
        """Return the leader's last entry; None before the round is opened."""
        return self._read_head()[0]

    def is_abandoned(self) -> bool:
        """Tell whether the round was abandoned; verdicts on late contributions may have followed. One small read."""
        head = self.head()
        if head is None:
            return False
        if head.is_abandoned is not None:
            return head.is_abandoned
        return isinstance(head.entry, Abandoned) or (isinstance(head.entry, Rejected) and bool(self.led().abandoned))

    def append(self, event: LeaderEvent) -> None:
        """Append as the leader.

        Raises:
            ConflictError: Another aggregator appended since this journal's `state` was read.
        """
        with self._lock:
            head, etag = self._read_head()
            if head is not None and [encode(entry) for entry in self._leader[head.seq :]] != [encode(head.entry)]:
                raise ConflictError(f"round {self.round}: another aggregator wrote {head.entry.event!r} meanwhile")
            if head is not None and self._num_written <= head.seq:
                self._write_entry(head)
            is_abandoned = isinstance(event, Abandoned) or self._led.abandoned is not None
            new = Head(seq=0 if head is None else head.seq + 1, entry=event, is_abandoned=is_abandoned)
            self._store.compare_and_swap(self._head_key, encode(new), etag=etag)
            self._write_entry(new)
            self._learn([event])

    def receive(self, event: Received) -> bool:
        """Record a contribution as a gateway; False if it was recorded before."""
        is_new = self._store.put_if_absent(self._received_key(event.contribution), encode(event))
        if is_new:
            self._received[event.contribution] = event
        return is_new

    def has_received(self, contribution: str) -> bool:
        """Tell whether a contribution was recorded."""
        return contribution in self._received or self._store.head(self._received_key(contribution)) is not None

    def led(self) -> RoundState:
        """Read what is new of the leader's entries, and fold them; `received` stays empty.

        One small read where nothing is new, and a few in all for every entry, whatever the number of contributions.
        """
        with self._lock:
            self._read_leader()
            return self._led

    def state(self, *, max_age_s: float | None = 0.0) -> RoundState:
        """Read what is new, and fold it all. A leader that died before it wrote its last entry is helped out.

        Args:
            max_age_s: The age at which the list of what was received is good enough while the round is open; None:
                for as long as its length demands. The leader's entries are always the newest.
        """
        led = self.led()
        self._list_received(led, max_age_s)
        received = list(self._received.values())  # at once: gateways add entries in other threads
        before, num_received, state = self._folded
        if before is not led or num_received != len(received):
            state = fold(received, onto=led)
            self._folded = (led, len(received), state)
        return state

    def _list_received(self, led: RoundState, max_age_s: float | None) -> None:
        """Read the `received` entries that are new. Once the round has ended, every entry of the leader's asks for it.

        Of what was acknowledged nothing may be missing when the last verdicts are written, even if one listing was
        stale: after `closed` there are as many as there are entries.
        """
        now_s, last = self._clock(), self._listing
        age_s = last.num_seconds_good if max_age_s is None else max_age_s
        if now_s - last.began_s < age_s and (led.is_open or last.num_leader == len(self._leader)):
            return
        num_leader, keys = len(self._leader), list(self._keys(self._folder))
        new = [key for key in keys if key.endswith(_RECEIVED) and self._name(key) not in self._received]
        if new:
            with ThreadPoolExecutor(min(_PARALLEL_READS, len(new))) as pool:
                self._received |= zip(map(self._name, new), pool.map(self._read_received, new), strict=True)
        self._listing = _Listing(began_s=now_s, num_leader=num_leader, num_keys=len(keys))
        self._help_out(keys)

    def _help_out(self, keys: list[str]) -> None:
        """Write the last entry of a leader that died before it did; where this store is only read, others will."""
        with self._lock:
            last = len(self._leader) - 1
            if last < self._num_written:
                return
            if self._leader_key(last, self._leader[last]) in keys:
                self._num_written = last + 1
                return
            with suppress(StorageError):
                self._write_entry(Head(seq=last, entry=self._leader[last]))

    def _read_leader(self) -> None:
        """Read the leader's entries up to the head."""
        head, _ = self._read_head()
        if head is None and self._leader:
            raise StorageError(f"{self._head_key}: was there and is gone; try again, or restore it")
        if head is None or head.seq < len(self._leader):  # an old reply tells nothing new
            return
        self._learn([*self._read_entries(range(len(self._leader), head.seq)), head.entry])

    def _read_entries(self, places: range) -> list[LeaderEvent]:
        """Read these of the leader's entries; each was written before the next one was announced."""
        if not places:
            return []
        digits = commonprefix([f"{places[0]:08d}", f"{places[-1]:08d}"])  # noqa: RUF071 - of characters, not of folders
        prefix = self._folder + digits  # which few digests of contributions begin with
        after = f"{self._folder}{places[0] - 1:08d}~" if places[0] else None
        found = {self._name(key): key for key in self._keys(prefix, after=after) if not key.endswith(_RECEIVED)}
        for place in places:
            if f"{place:08d}" not in found:
                raise StorageError(
                    f"round {self.round}: entry {place} of its journal ({self._folder}{place:08d}-…) is missing; "
                    "try again, or restore it from a copy of the store"
                )
        with ThreadPoolExecutor(min(_PARALLEL_READS, len(places))) as pool:
            entries = list(pool.map(lambda place: self._read_entry(found[f"{place:08d}"]), places))
        self._num_written = max(self._num_written, places.stop)
        return [entry for entry in entries if not isinstance(entry, Received)]

    def _learn(self, entries: list[LeaderEvent]) -> None:
        self._leader += entries
        self._led = fold(entries, onto=self._led)

    def _read_received(self, key: str) -> Received:
        entry = self._read_entry(key)
        if not isinstance(entry, Received) or entry.contribution != self._name(key):
            raise CodecError(f"{key}: holds another entry than its name says; try again, or restore it from a copy")
        return entry

    def _read_entry(self, key: str) -> Event:
        return decode_any(EVENT, self._store.get(key), what=key)

    def _keys(self, prefix: str, *, after: str | None = None) -> Iterator[str]:
        while True:
            page = self._store.list(prefix, after=after)
            yield from page.keys
            if page.next_after is None:
                return
            after = page.next_after

    def _read_head(self) -> tuple[Head | None, str | None]:
        try:
            data, etag = self._store.get_with_etag(self._head_key)
        except ObjectNotFoundError:
            return None, None
        return decode(Head, data, what=self._head_key), etag

    def _name(self, key: str) -> str:
        """Return the contribution of a `received` entry, or the place of one of the leader's."""
        return key.removeprefix(self._folder).partition("-")[0]

    def _received_key(self, contribution: str) -> str:
        return f"{self._folder}{contribution}{_RECEIVED}"

    def _leader_key(self, seq: int, entry: LeaderEvent) -> str:
        return f"{self._folder}{seq:08d}-{entry.event}"

    def _write_entry(self, head: Head) -> None:
        """Write the entry that the head announces; harmless if somebody did already."""
        self._store.put_if_absent(self._leader_key(head.seq, head.entry), encode(head.entry))
        self._num_written = head.seq + 1
