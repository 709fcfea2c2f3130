"""Parts that were sent and belong to no contribution yet: whose they are, and how much they are.

A part is an object like any other, named by its digest, so that the same bytes are stored once. What is known beside it
lies in lists (`sent`), each of what one sender has brought. They serve three ends. Whoever asks what is missing hears
of the parts that they have sent themselves and of nobody else's: whether a private part exists is nobody's business,
and who can guess its bytes could ask. The parts count against the federation's bound until a contribution names them.
And those that no contribution ever names are found and dropped (`leftovers`).

Lists are written by the gateway that took the parts, some seconds after them and many at a time: a contribution that is
committed at once costs the store nothing here. A gateway that is killed within these seconds leaves parts that no list
names. They are whole, whoever sends them again finds them there; only their space goes uncounted.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from coldfuse.core.blob import Part
from coldfuse.errors import ContributionRejectedError, GatewayBusyError, StorageError
from coldfuse.gateway.sent import (
    MAX_PARTS_OF_A_LIST,
    ListName,
    Sender,
    SentParts,
    find_lists,
    read_lists,
    write_list,
)
from coldfuse.gateway.single_flight import SingleFlight
from coldfuse.storage.base import ObjectStore

WRITE_AFTER_S = 1.0
"""Seconds after which a list is written of what came."""

_USAGE_AGE_S = 30.0
"""Largest age of what is known of the lists that other gateways wrote."""


class Arrivals:
    """What one gateway took and nobody has committed. Any thread may call it."""

    def __init__(
        self, store: ObjectStore, *, max_bytes: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin; nothing is read yet.

        Args:
            store: Where the parts and their lists lie.
            max_bytes: How many bytes of uncommitted parts the federation takes; None: any number.
            clock: Tells the time in seconds.
        """
        self._store = store
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._fresh: dict[Sender, dict[Part, bool]] = {}  # and whether the store had not had them
        self._since_s: dict[Sender, float] = {}
        self._listed: dict[ListName, SentParts] = {}  # by this gateway, until they are committed
        self._usage = SingleFlight(self._read_usage, clock=clock)

    def check_room(self, sender: Sender, size_bytes: int) -> None:
        """Refuse a part for which there is no room.

        Raises:
            GatewayBusyError: Too much is uncommitted, in all or of this sender.
            ContributionRejectedError: The part alone is more than the sender may ever have here.
        """
        if self._max_bytes is None and sender.quota_bytes is None:
            return
        usage = self._usage_by_sender()
        if sender.quota_bytes is not None:
            own = sum(num_bytes for each, num_bytes in usage.items() if each.owner == sender.owner)
            _check_quota(own, size_bytes, sender.quota_bytes)
        if self._max_bytes is not None:
            own = sum(num_bytes for each, num_bytes in usage.items() if each.caller == sender.caller)
            _check_bound(own + size_bytes, usage.total() + size_bytes, self._max_bytes)

    def note(self, sender: Sender, part: Part, *, is_new: bool) -> None:
        """Take note of a part that is durable now."""
        with self._lock:
            self._fresh.setdefault(sender, {}).setdefault(part, is_new)
            self._since_s.setdefault(sender, self._clock())

    def held(self, owner: str) -> set[Part]:
        """Return the parts that an owner has brought, to whichever gateway, and not committed."""
        found = set[Part]().union(*(sent.parts for sent in self._lists_of(owner).values()))
        with self._lock:
            return found.union(*(parts for sender, parts in self._fresh.items() if sender.owner == owner))

    def committed(self, owner: str | None, parts: Iterable[Part]) -> None:
        """Take note that a contribution names these parts; None: nobody knows whose they were."""
        named = set(parts)
        with self._lock:
            left = named - self._forget(owner, named)
            lists = {
                name: sent
                for name, sent in self._listed.items()
                if owner in (None, name.sender.owner) and sent.parts & named
            }
        if owner is not None and left.difference(*(sent.parts for sent in lists.values())):  # another gateway took some
            lists |= self._lists_of(owner)
        for name, sent in lists.items():
            if sent.parts <= named:  # a list with others on it stays until they are committed, or dropped
                self._store.delete(name.key)
                with self._lock:
                    self._listed.pop(name, None)

    def write_lists(self, *, older_than_s: float = WRITE_AFTER_S) -> None:
        """Write lists of what came so long ago. What cannot be written is tried again with the next call."""
        now_s = self._clock()
        with self._lock:
            due = [sender for sender, since_s in self._since_s.items() if now_s - since_s >= older_than_s]
            taken = {sender: self._take(sender) for sender in due}
        for sender, parts in taken.items():
            for first in range(0, len(parts), MAX_PARTS_OF_A_LIST):
                self._write(sender, dict(list(parts.items())[first : first + MAX_PARTS_OF_A_LIST]))

    def usage(self) -> Counter[str]:
        """Return how many bytes of uncommitted parts there are, by caller."""
        usage: Counter[str] = Counter()
        for sender, num_bytes in self._usage_by_sender().items():
            usage[sender.caller] += num_bytes
        return usage

    def _usage_by_sender(self) -> Counter[Sender]:
        usage = Counter(self._usage.get(max_age_s=_USAGE_AGE_S))
        with self._lock:
            for sender, parts in self._fresh.items():
                usage[sender] += _new_bytes(parts)
        return usage

    def _lists_of(self, owner: str) -> dict[ListName, SentParts]:
        return read_lists(self._store, find_lists(self._store, owner))

    def _forget(self, owner: str | None, named: set[Part]) -> set[Part]:
        found: set[Part] = set()
        for sender, parts in list(self._fresh.items()):
            if owner in (None, sender.owner):
                found |= named & parts.keys()
                self._fresh[sender] = {part: is_new for part, is_new in parts.items() if part not in named}
                if not self._fresh[sender]:
                    self._take(sender)
        return found

    def _take(self, sender: Sender) -> dict[Part, bool]:
        self._since_s.pop(sender, None)
        return self._fresh.pop(sender, {})

    def _write(self, sender: Sender, parts: Mapping[Part, bool]) -> None:
        name = ListName(sender, int(time.time()), _new_bytes(parts), secrets.token_hex(4))
        sent = SentParts(
            new=tuple(part for part, is_new in parts.items() if is_new),
            known=tuple(part for part, is_new in parts.items() if not is_new),
        )
        with self._lock:
            self._listed[name] = sent  # first: whoever commits meanwhile finds it here
        try:
            write_list(self._store, name, sent)
        except StorageError:
            with self._lock:
                if self._listed.pop(name, None) is not None:
                    self._fresh[sender] = dict(parts) | self._fresh.get(sender, {})
                    self._since_s.setdefault(sender, self._clock())
            raise
        with self._lock:
            is_committed = name not in self._listed
            while len(self._listed) > _MAX_LISTED:
                self._listed.pop(next(iter(self._listed)))
        if is_committed:
            with suppress(StorageError):  # it is found and dropped in its time
                self._store.delete(name.key)

    def _read_usage(self) -> Mapping[Sender, int]:
        usage: Counter[Sender] = Counter()
        for name in find_lists(self._store):
            usage[name.sender] += name.size_bytes
        return usage


def _check_quota(own: int, size_bytes: int, quota_bytes: int) -> None:
    """Refuse what is beyond a member's quota."""
    if size_bytes > quota_bytes:
        raise ContributionRejectedError(
            f"this part has {size_bytes:,} bytes, and your quota of what is sent and not committed is {quota_bytes:,}; "
            "choose a smaller encoding, or ask an operator for more"
        )
    if own + size_bytes > quota_bytes:
        raise GatewayBusyError(
            f"with this part {own + size_bytes:,} bytes of yours would lie here that you have not committed, and your "
            f"quota is {quota_bytes:,}; commit what you have sent, or ask an operator for more"
        )


def _check_bound(own: int, total: int, max_bytes: int) -> None:
    """Refuse what is beyond the federation's bound, or one sender's half of it."""
    if total <= max_bytes and own <= max_bytes // 2:
        return
    raise GatewayBusyError(
        f"with this part {total:,} bytes would lie here that nobody has committed, {own:,} of them from where you "
        f"call; the federation takes {max_bytes:,}, and half of that from one place; commit what you have "
        "sent, or try again later, as such parts are dropped after a day"
    )


_MAX_LISTED = 4096
"""Lists that a gateway remembers to have written; those of older ones are found in the store."""


def _new_bytes(parts: Mapping[Part, bool]) -> int:
    return sum(part.size_bytes for part, is_new in parts.items() if is_new)
