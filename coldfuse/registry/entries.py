"""Heads and entries of one round's journal, as they lie in the store.

How they are written is said in `chain`; what is damaged is read again before it counts as that, and is then made of
what the store holds elsewhere (`recovery`), or is lost. What gateways have received nobody but its contributor signs.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from os.path import commonprefix
from typing import get_args

from coldfuse.core.round import EVENT, Abandoned, Event, LeaderEvent, Received
from coldfuse.core.sealed import seal, unsealed
from coldfuse.core.serialization import decode_any
from coldfuse.errors import CodecError, ObjectNotFoundError
from coldfuse.registry.chain import Codec, Head, Plain, Written
from coldfuse.registry.reading import read_again
from coldfuse.registry.recovery import recover_received
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.tensors.rereading import TRIES, pause

log = logging.getLogger(__name__)

_PARALLEL_READS = 16
"""Entries that are read at a time: after a takeover there may be ten thousand."""

_RECEIVED = "-received"

_LEADERS = re.compile(r"[0-9]{8}-[a-z-]+")
"""Name of an entry that a leader has written."""

LOST_REASON = "the entry that says why is damaged"
"""Reason of a round of which no more is known than that it was abandoned."""

_KINDS = tuple(kind.model_fields["event"].default for kind in get_args(LeaderEvent))


class Entries:
    """Reads and writes the head and the entries of one round's journal."""

    def __init__(self, store: ObjectStore, round_number: int, codec: Codec | None = None) -> None:
        """Take where the journal lies.

        Args:
            store: The federation's store.
            round_number: The round.
            codec: How its leader's entries are written; None: as without a root.
        """
        self.folder = f"rounds/{round_number:05d}/journal/"
        self.head_key = f"rounds/{round_number:05d}/head"
        self.codec: Codec = codec or Plain()
        self._store = store

    def keys(self, prefix: str | None = None, *, after: str | None = None) -> Iterator[str]:
        """List the keys of entries, or of those with a prefix."""
        return list_keys(self._store, self.folder if prefix is None else prefix, after=after)

    def read_head(self) -> tuple[Written | None, str | None, bool]:
        """Return the head, None if it is missing or damaged; its etag; and whether it is damaged.

        Raises:
            TrustError: It is forged.
        """
        try:
            head, etag = read_again(
                self._store, self.head_key, lambda data: self.codec.read_head(data, what=self.head_key)
            )
        except ObjectNotFoundError:
            return None, None, False
        except CodecError as error:
            log.warning("%s", error)
            return None, self._store.get_with_etag(self.head_key)[1], True
        return head, etag, False

    def swap_head(self, head: Written, etag: str | None) -> None:
        """Announce an entry; raises `ConflictError` if the head is another than that of the etag."""
        self._store.compare_and_swap(self.head_key, head.data, etag=etag)

    def write(self, head: Written) -> None:
        """Write the entry that the head announces; harmless if somebody did already."""
        self._store.put_if_absent(self.leader_key(head.head), self.codec.entry_bytes(head))

    def receive(self, event: Received) -> bool:
        """Write what a gateway has received; False if that is there."""
        return self._store.put_if_absent(self._received_key(event.contribution), seal(event))

    def has_received(self, contribution: str) -> bool:
        """Tell whether a gateway has received a contribution."""
        return self._store.head(self._received_key(contribution)) is not None

    def read_received(self, contributions: list[str]) -> dict[str, Received]:
        """Read what gateways have received, by contribution, but for what is lost."""
        if not contributions:
            return {}
        with ThreadPoolExecutor(min(_PARALLEL_READS, len(contributions))) as pool:
            found = pool.map(self._read_received, contributions)
            return {entry.contribution: entry for entry in found if entry is not None}

    def read_led(self, places: range) -> list[Written | None]:
        """Read these of the leader's entries, each None if it is lost; each was written before the next was announced.

        A lost one is as if it had never been written: what it said is decided anew.

        Raises:
            TrustError: One is forged.
        """
        if not places:
            return []
        digits = commonprefix([f"{places[0]:08d}", f"{places[-1]:08d}"])  # noqa: RUF071 - of characters, not of folders
        after = f"{self.folder}{places[0] - 1:08d}~" if places[0] else None
        # Few digests of contributions begin with these digits.
        found = {self.place_of(key): key for key in self.keys(self.folder + digits, after=after)}
        with ThreadPoolExecutor(min(_PARALLEL_READS, len(places))) as pool:
            return list(pool.map(lambda place: self._read_led(place, found.get(place)), places))

    def bytes_of(self, head: Head) -> bytes | None:
        """Return an entry as it is written; None if it is lost."""
        try:
            return self._store.get(self.leader_key(head))
        except ObjectNotFoundError:
            written, _, _ = self.read_head()
            return self.codec.entry_bytes(written) if written is not None and written.head.seq == head.seq else None

    def recovered(self, key: str) -> bytes | None:
        """Return what belongs under the key of a damaged entry, if the store says that elsewhere."""
        name = key.removeprefix(self.folder)
        if name.endswith(_RECEIVED):
            event = recover_received(self._store, name.removesuffix(_RECEIVED))
            return seal(event) if event is not None else None
        head, _, _ = self.read_head()
        return self.codec.entry_bytes(head) if head is not None and self.leader_key(head.head) == key else None

    def contribution_of(self, key: str) -> str | None:
        """Return the contribution of an entry that a gateway has written, by its key; None for a leader's."""
        return key.removeprefix(self.folder).removesuffix(_RECEIVED) if key.endswith(_RECEIVED) else None

    def place_of(self, key: str) -> int | None:
        """Return the place of a leader's entry, by its key; None for what gateways have written."""
        name = key.removeprefix(self.folder)
        return int(name[:8]) if _LEADERS.fullmatch(name) else None

    def end(self, keys: Iterable[str]) -> int:
        """Return the place after the last of the leader's entries among these keys."""
        places = (self.place_of(key) for key in keys)
        return max((place + 1 for place in places if place is not None), default=0)

    def leader_key(self, head: Head) -> str:
        """Return the key of the entry that a head announces."""
        return f"{self.folder}{head.seq:08d}-{head.entry.event}"

    def _received_key(self, contribution: str) -> str:
        return f"{self.folder}{contribution}{_RECEIVED}"

    def _read_received(self, contribution: str) -> Received | None:
        key = self._received_key(contribution)
        try:
            entry = read_again(self._store, key, lambda data: _entry(data, key))[0]
            if isinstance(entry, Received) and entry.contribution == contribution:
                return entry
            why = f"{key}: holds another entry than its name says"
        except ObjectNotFoundError:
            return None
        except CodecError as error:
            why = str(error)
        found = recover_received(self._store, contribution)
        log.warning("%s: %s", why, "made of the contribution's manifest" if found else "left out")
        return found

    def _read_led(self, place: int, key: str | None) -> Written | None:
        """Read the entry in a place. A list may be stale, so one that is not listed is looked for by its name."""
        why = f"entry {place} ({self.folder}{place:08d}-…) is missing"
        candidates = [key] if key else [f"{self.folder}{place:08d}-{kind}" for kind in _KINDS]
        for number in range(1 if key else TRIES):
            pause(number)
            for candidate in candidates:
                try:
                    return self._read(candidate, place)
                except ObjectNotFoundError:
                    continue
                except CodecError as error:
                    why = str(error)
                    break
        if key is not None and key.endswith("-abandoned") and not self.codec.is_signed:  # the name says what counts
            return Written(Head(seq=place, entry=Abandoned(reason=LOST_REASON)), b"")
        log.warning("%s: left out; what it said is decided anew", why)
        return None

    def _read(self, key: str, place: int) -> Written:
        return read_again(self._store, key, lambda data: self.codec.read_entry(data, seq=place, what=key))[0]


def _entry(data: bytes, key: str) -> Event:
    return unsealed(data, lambda: decode_any(EVENT, data, what=key), what=key)
