"""Lists of parts that were sent and belong to no contribution yet, as they lie in the store (see `arrivals`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from coldfuse.core.blob import Part
from coldfuse.core.serialization import decode, encode
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, ObjectNotFoundError
from coldfuse.storage.base import ObjectStore, list_keys

logger = logging.getLogger(__name__)

SENT = "uploads/sent/"
"""Folder of the lists: `<owner>/<time>-<bytes>-<caller>-<mark>`, numbers in hex."""

MAX_PARTS_OF_A_LIST = 4096


class SentParts(Value):
    """Parts that one sender has brought."""

    new: Annotated[tuple[Part, ...], Field(max_length=MAX_PARTS_OF_A_LIST)] = ()
    """Those that the store did not have before."""
    known: Annotated[tuple[Part, ...], Field(max_length=MAX_PARTS_OF_A_LIST)] = ()
    """Those that it had, from whomever: they are not this sender's to drop."""

    @property
    def parts(self) -> frozenset[Part]:
        """All of them."""
        return frozenset((*self.new, *self.known))


@dataclass(frozen=True)
class Sender:
    """Who brings parts."""

    owner: str
    """Digest of the member, or of the secret by which a sender shows later that the parts are theirs: 32 hex digits."""
    caller: str
    """Digest of the member, or of where the sender calls from, 8 hex digits: enough for a fair share."""
    quota_bytes: int | None = field(default=None, compare=False)
    """What this member may have sent and not committed, at most; None where nothing but the bound of all holds."""


@dataclass(frozen=True)
class ListName:
    """What a list's key tells, so that counting reads no list."""

    sender: Sender
    sent_at_s: int
    """Seconds since 1970, by the gateway's clock."""
    size_bytes: int
    """Size of the new ones among its parts."""
    mark: str
    """Tells two lists apart."""

    @property
    def key(self) -> str:
        """Key of the list.

        >>> ListName(Sender("0f", "ca11"), 16, 255, "a").key
        'uploads/sent/0f/10-ff-ca11-a'
        """
        return f"{SENT}{self.sender.owner}/{self.sent_at_s:x}-{self.size_bytes:x}-{self.sender.caller}-{self.mark}"

    @classmethod
    def parse(cls, key: str) -> ListName | None:
        """Read a key; None for what is no list's."""
        owner, _, rest = key.removeprefix(SENT).partition("/")
        try:
            sent_at_s, size_bytes, caller, mark = rest.split("-")
            return cls(Sender(owner, caller), int(sent_at_s, 16), int(size_bytes, 16), mark)
        except ValueError:
            return None


def find_lists(store: ObjectStore, owner: str | None = None) -> Iterator[ListName]:
    """Find the lists of one owner, or of all."""
    keys = list_keys(store, SENT if owner is None else f"{SENT}{owner}/")
    yield from filter(None, map(ListName.parse, keys))


def write_list(store: ObjectStore, name: ListName, sent: SentParts) -> None:
    """Store a list."""
    store.put_if_absent(name.key, encode(sent))


def read_lists(store: ObjectStore, names: Iterable[ListName]) -> dict[ListName, SentParts]:
    """Read lists; one that was removed meanwhile is left out, and one that is damaged names nothing."""
    lists = {}
    for name in names:
        with suppress(ObjectNotFoundError):
            data = store.get(name.key)
            try:
                lists[name] = decode(SentParts, data, what=name.key)
            except CodecError as error:
                logger.warning("what it names goes uncounted: %s", error)
                lists[name] = SentParts()
    return lists
