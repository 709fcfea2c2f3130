"""The journal of one round.

Only the leading aggregator appends, but for a moment there may be two that think they lead. So an append is a compare
and swap of `rounds/<n>/head`, which holds the last entry: whoever swaps it has written entry `seq`, and the other gets
a `ConflictError`. The entry's own object is written after that; if a crash comes between, whoever reads the head next
writes it. The journal is thus one sequence, and every object in it is immutable.

Gateways write `received` entries without asking anybody: they are named by the contribution's digest, so that
committing twice is one entry, and 10,000 contributors do not queue for one pointer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from coldfuse.core.round import EVENT, Event, LeaderEvent, Received, RoundState, fold
from coldfuse.core.sealed import seal, unseal, unsealed
from coldfuse.core.serialization import decode_any
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, ConflictError, ObjectNotFoundError
from coldfuse.registry.reading import read_again
from coldfuse.registry.recovery import complete, is_consistent, recover_received
from coldfuse.storage.base import ObjectStore

log = logging.getLogger(__name__)

_LEADERS = re.compile(r"/(?P<seq>[0-9]{8})-[a-z-]+$")
"""How the key of an entry ends that a leader has written."""

_PARALLEL_READS = 16
"""Entries that are read at a time: after a takeover there may be ten thousand."""


class Head(Value):
    """The last entry, and its place in the sequence."""

    seq: int
    """Place of the entry in the leader's sequence, from 0."""
    entry: LeaderEvent
    is_abandoned: bool = False
    """True once the round was abandoned, whatever came after that, such as verdicts on what was late."""


class Journal:
    """Reads and extends one round's journal. Entries that were read once are kept: they cannot change."""

    def __init__(self, store: ObjectStore, round_number: int) -> None:
        self.round = round_number
        self._store = store
        self._folder = f"rounds/{round_number:05d}/journal/"
        self._head_key = f"rounds/{round_number:05d}/head"
        self._entries: dict[str, Event] = {}
        self._has_lost = False
        self.needs_head = False
        """True if the head was damaged or missing when the state was read, though the round has begun."""

    def head(self) -> Head | None:
        """Return the leader's last entry; None before the round is opened.

        A head that is damaged is made of the last entry that can be read.
        """
        head, _, is_damaged = self._read_head()
        return self._last() if is_damaged else head

    def append(self, event: LeaderEvent) -> None:
        """Append as the leader. A damaged or missing head is replaced by this entry.

        Raises:
            ConflictError: Another aggregator appended since this journal's `state` was read.
        """
        head, etag, _ = self._read_head()
        if head is not None and self._leader_key(head) not in self._entries:
            raise ConflictError(f"round {self.round}: another aggregator wrote {head.entry.event!r} meanwhile")
        is_abandoned = event.event == "abandoned" or (head is not None and head.is_abandoned)
        new = Head(seq=self._next_seq() if head is None else head.seq + 1, entry=event, is_abandoned=is_abandoned)
        self._store.compare_and_swap(self._head_key, seal(new), etag=etag)
        self._write_entry(new)

    def mend_head(self) -> bool:
        """Write the head anew, as the leader, if it is damaged or missing though there are entries; True if it was.

        Raises:
            ConflictError: Another aggregator has done it, or has appended.
        """
        head, etag, _ = self._read_head()
        last = self._last() if head is None else None
        if last is None:
            return False
        self._store.compare_and_swap(self._head_key, seal(last), etag=etag)
        return True

    def recovered(self, key: str) -> bytes | None:
        """Return what belongs under the key of a damaged entry, if the store says that elsewhere."""
        event = self._recover(key)
        return seal(event) if event is not None else None

    def receive(self, event: Received) -> bool:
        """Record a contribution as a gateway; False if it was recorded before."""
        return self._store.put_if_absent(f"{self._folder}{event.contribution}-received", seal(event))

    def has_received(self, contribution: str) -> bool:
        """Tell whether a contribution was recorded."""
        return self._store.head(f"{self._folder}{contribution}-received") is not None

    def state(self) -> RoundState:
        """Read what is new, and fold it all. A leader that died before it wrote its last entry is helped out.

        What cannot be read of the journal is made of what the store holds elsewhere (`recovery`).
        """
        head, _, is_damaged = self._read_head()
        if head is not None and self._leader_key(head) not in self._entries:
            self._write_entry(head)
        new = [key for key in self._keys() if key not in self._entries]
        lost = False
        if new:
            with ThreadPoolExecutor(min(_PARALLEL_READS, len(new))) as pool:
                found = dict(zip(new, pool.map(self._read_entry, new), strict=True))
            self._entries |= {key: entry for key, entry in found.items() if entry is not None}
            lost = None in found.values()
        self._has_lost |= lost
        self.needs_head = head is None and (is_damaged or any(_seq_of(key) is not None for key in self._entries))
        state = fold(self._entries[key] for key in sorted(self._entries))  # 00000000-opened, …: the leader's order
        return complete(self._store, state) if self._has_lost or not is_consistent(state) else state

    def _read_entry(self, key: str) -> Event | None:
        """Return an entry; None if it is damaged, and nothing says what it was."""
        try:
            return read_again(self._store, key, lambda data: _entry(data, key))[0]
        except CodecError as error:
            found = self._recover(key)
            log.warning("%s: %s", error, "made anew" if found else "left out; what it said is decided anew")
            return found

    def _recover(self, key: str) -> Event | None:
        name = key.removeprefix(self._folder)
        if name.endswith("-received"):
            return recover_received(self._store, name.removesuffix("-received"))
        head, _, _ = self._read_head()
        return head.entry if head is not None and self._leader_key(head) == key else None

    def _keys(self) -> Iterator[str]:
        after: str | None = None
        while True:
            page = self._store.list(self._folder, after=after)
            yield from page.keys
            if page.next_after is None:
                return
            after = page.next_after

    def _read_head(self) -> tuple[Head | None, str | None, bool]:
        """Return the head, None if it is missing or damaged; its etag; and whether it is damaged."""
        try:
            head, etag = read_again(self._store, self._head_key, lambda data: unseal(Head, data, what=self._head_key))
        except ObjectNotFoundError:
            return None, None, False
        except CodecError as error:
            log.warning("%s", error)
            return None, self._store.get_with_etag(self._head_key)[1], True
        return head, etag, False

    def _last(self) -> Head | None:
        """Return the last of the leader's entries that can be read, in the place of the last that is there."""
        keys = [key for key in self._keys() if _seq_of(key) is not None]
        for key in reversed(keys):
            entry = self._entries.get(key) or self._read_entry(key)
            if entry is not None and not isinstance(entry, Received):
                is_abandoned = any(key.endswith("-abandoned") for key in keys)
                return Head(seq=_seq_of(keys[-1]) or 0, entry=entry, is_abandoned=is_abandoned)
        return None

    def _next_seq(self) -> int:
        """Return the place after the leader's last entry, for a round whose head says nothing.

        Raises:
            ConflictError: There is an entry that `state` has not seen.
        """
        keys = [key for key in self._keys() if _seq_of(key) is not None] if self._entries or self._has_lost else []
        if any(key not in self._entries for key in keys) and not self._has_lost:
            raise ConflictError(f"round {self.round}: another aggregator has written meanwhile")
        return max((_seq_of(key) or 0 for key in keys), default=-1) + 1

    def _leader_key(self, head: Head) -> str:
        return f"{self._folder}{head.seq:08d}-{head.entry.event}"

    def _write_entry(self, head: Head) -> None:
        """Write the entry that the head announces; harmless if somebody did already."""
        self._store.put_if_absent(self._leader_key(head), seal(head.entry))
        self._entries[self._leader_key(head)] = head.entry


def _entry(data: bytes, key: str) -> Event:
    return unsealed(data, lambda: decode_any(EVENT, data, what=key), what=key)


def _seq_of(key: str) -> int | None:
    """Return the place of a leader's entry, by its key; None for what gateways have written."""
    found = _LEADERS.search(key)
    return int(found["seq"]) if found else None
