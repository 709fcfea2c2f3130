"""The journal of one round.

Only the leading aggregator appends, but for a moment there may be two that think they lead. So an append is a compare
and swap of `rounds/<n>/head`, which holds the last entry: whoever swaps it has written entry `seq`, and the other gets
a `ConflictError`. The entry's own object is written after that; if a crash comes between, whoever reads the head next
writes it. The journal is thus one sequence, and every object in it is immutable.

Gateways write `received` entries without asking anybody: they are named by the contribution's digest, so that
committing twice is one entry, and 10,000 contributors do not queue for one pointer.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from coldfuse.core.round import EVENT, Event, LeaderEvent, Received, RoundState, fold
from coldfuse.core.serialization import decode, decode_any, encode
from coldfuse.core.value import Value
from coldfuse.errors import ConflictError, ObjectNotFoundError
from coldfuse.storage.base import ObjectStore

_PARALLEL_READS = 16
"""Entries that are read at a time: after a takeover there may be ten thousand."""


class Head(Value):
    """The last entry, and its place in the sequence."""

    seq: int
    """Place of the entry in the leader's sequence, from 0."""
    entry: LeaderEvent


class Journal:
    """Reads and extends one round's journal. Entries that were read once are kept: they cannot change."""

    def __init__(self, store: ObjectStore, round_number: int) -> None:
        self.round = round_number
        self._store = store
        self._folder = f"rounds/{round_number:05d}/journal/"
        self._head_key = f"rounds/{round_number:05d}/head"
        self._entries: dict[str, Event] = {}

    def head(self) -> Head | None:
        """Return the leader's last entry; None before the round is opened."""
        return self._read_head()[0]

    def append(self, event: LeaderEvent) -> None:
        """Append as the leader.

        Raises:
            ConflictError: Another aggregator appended since this journal's `state` was read.
        """
        head, etag = self._read_head()
        if head is not None and self._leader_key(head) not in self._entries:
            raise ConflictError(f"round {self.round}: another aggregator wrote {head.entry.event!r} meanwhile")
        new = Head(seq=0 if head is None else head.seq + 1, entry=event)
        self._store.compare_and_swap(self._head_key, encode(new), etag=etag)
        self._write_entry(new)

    def receive(self, event: Received) -> bool:
        """Record a contribution as a gateway; False if it was recorded before."""
        return self._store.put_if_absent(f"{self._folder}{event.contribution}-received", encode(event))

    def has_received(self, contribution: str) -> bool:
        """Tell whether a contribution was recorded."""
        return self._store.head(f"{self._folder}{contribution}-received") is not None

    def state(self) -> RoundState:
        """Read what is new, and fold it all. A leader that died before it wrote its last entry is helped out."""
        head, _ = self._read_head()
        if head is not None and self._leader_key(head) not in self._entries:
            self._write_entry(head)
        new = [key for key in self._keys() if key not in self._entries]
        if new:
            with ThreadPoolExecutor(min(_PARALLEL_READS, len(new))) as pool:
                self._entries |= zip(new, pool.map(self._read_entry, new), strict=True)
        return fold(self._entries[key] for key in sorted(self._entries))  # 00000000-opened, …: the leader's order

    def _read_entry(self, key: str) -> Event:
        return decode_any(EVENT, self._store.get(key), what=key)

    def _keys(self) -> Iterator[str]:
        after: str | None = None
        while True:
            page = self._store.list(self._folder, after=after)
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

    def _leader_key(self, head: Head) -> str:
        return f"{self._folder}{head.seq:08d}-{head.entry.event}"

    def _write_entry(self, head: Head) -> None:
        """Write the entry that the head announces; harmless if somebody did already."""
        self._store.put_if_absent(self._leader_key(head), encode(head.entry))
        self._entries[self._leader_key(head)] = head.entry
