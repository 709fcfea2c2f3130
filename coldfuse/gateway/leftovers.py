"""Dropping parts that nobody has committed, without ever dropping one that a contribution or a release needs.

Gateways are many and share nothing but the store, which has no transaction over two keys. So a collector announces in
`uploads/collecting` what it means to drop, waits for `SETTLE_S`, and looks once more before it drops anything:

- Whoever takes a part or a contribution relies on an announcement that was read at most `KNOWN_S` ago, and refuses what
  it names. So what was taken without knowing of an announcement was taken within `KNOWN_S` after it, was listed or
  recorded in some seconds more, and is there when the collector looks, minutes later. Only durations are compared, each
  by one process's own clock. A clock that is wrong makes parts old too early, and they are sent again; nothing is lost.
- What a journal, a release or a contribution's manifest names stays, whatever the lists say; and where one of them is
  damaged or gone, everything stays. Names are looked for in the text of these documents, so that a kind of reference
  which a later version adds counts, too.
- An aggregator stores a release's parts before it names them, and what it stores may be what somebody sent: whoever
  knows a round's contributions can compute its release. So nothing is dropped unless the round takes contributions,
  when no release is being made; that is looked at before each single drop.
- Only what was new to the store when it was sent is dropped; and none of it while a younger list names it.

A collector that is killed leaves its announcement, which ends after `STALE_S`. One that is stopped for as long in the
microseconds before a drop, and goes on, could drop a part that was sent again and committed meanwhile: it looks at its
own clock before each, and what is left of this is not answered here, but by asking the contributor again.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Annotated

from pydantic import Field

from coldfuse.core.blob import Part
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.core.value import Digest, Value
from coldfuse.errors import CodecError, GatewayBusyError, ObjectNotFoundError
from coldfuse.gateway.sent import ListName, find_lists, read_lists
from coldfuse.gateway.single_flight import SingleFlight
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import object_key
from coldfuse.registry.tombstones import Graveyard
from coldfuse.storage.base import ObjectStore

logger = logging.getLogger(__name__)

COLLECTING = "uploads/collecting"
"""What is being dropped; there is no such object where nothing is."""

KEEP_S = 86_400.0
"""Seconds for which parts are kept that nobody commits: longer than an upload that goes on the next morning."""

KNOWN_S = 30.0
"""Largest age of what a gateway knows of the announcement."""

SETTLE_S = 300.0
"""Seconds between the announcement and the drops."""

STALE_S = 3600.0
"""Seconds after which an announcement is a dead collector's."""

MAX_BATCH = 10_000
"""Number of objects that are announced at once."""

_MAX_DROPPING_S = 600.0
"""A collector drops for at most so long after its announcement has settled."""

_RECEIVED = "-received"
"""End of the keys under which a journal records contributions, named by them."""

_NAMING = ("rounds/", "releases/", "channels/")
"""Folders of documents that name objects; one of them that cannot be read stops the collector."""

_NAMELESS = ("objects/", "uploads/", "root/", "members/", "quotas/", "scores/")
"""Folders of what is no document, or names no object: there may be twenty thousand members."""

_SIGNATURE = ".sig"
"""End of the keys of releases' signatures, which name nothing that the releases do not."""

_DIGEST = re.compile(rb"[0-9a-f]{64}")
_AFTER_OBJECTS, _AFTER_UPLOADS = "objects0", "uploads0"
"""Keys that come right after everything below `objects/` and `uploads/`."""


class Announcement(Value):
    """What a collector means to drop."""

    digests: Annotated[tuple[Digest, ...], Field(max_length=MAX_BATCH)]
    announced_at_s: float
    """Seconds since 1970, by the collector's clock."""


class Condemned:
    """What is being dropped by whichever gateway, as far as this one knows. Any thread may call it."""

    def __init__(self, store: ObjectStore, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = SingleFlight(lambda: _read_announcement(store), clock=clock)

    def check(self, parts: Iterable[Part]) -> None:
        """Refuse parts that are being dropped.

        Raises:
            GatewayBusyError: At least one is.
        """
        announced = self._read.get(max_age_s=KNOWN_S)
        if announced is not None and not {part.digest for part in parts}.isdisjoint(announced.digests):
            raise GatewayBusyError(
                "parts with these bytes were sent long ago and never committed, and are being dropped at this moment; "
                "send them again in some minutes"
            )


def drop_leftovers(
    federation: Federation,
    *,
    is_quiet: Callable[[], bool],
    wait: Callable[[float], bool],
    keep_s: float = KEEP_S,
    settle_s: float = SETTLE_S,
) -> int:
    """Drop parts that were sent long ago and that nothing names, and return how many.

    Args:
        federation: The federation.
        is_quiet: Tells whether no release is being made at this moment.
        wait: Waits for so many seconds; True: stop.
        keep_s: Seconds for which parts are kept.
        settle_s: Seconds between announcing and dropping.

    Raises:
        StorageError: The store fails; what was dropped until then was nobody's.
        CodecError: Nobody knows what a damaged document names.
    """
    store, now_s = federation.store, time.time()
    seen = set(find_lists(store))
    old = read_lists(store, (name for name in seen if now_s - name.sent_at_s >= keep_s))
    spared = _named_by(store, seen.difference(old))
    candidates = list(dict.fromkeys(part.digest for sent in old.values() for part in sent.new))
    condemned = [digest for digest in candidates if digest not in spared][:MAX_BATCH]
    if condemned and not announce(store, condemned, now_s=now_s):
        return 0
    dropped: set[str] = set()
    kept: set[str] = set()
    if condemned:
        try:
            if wait(settle_s):
                return 0
            spared |= _named_by(store, set(find_lists(store)) - seen)
            kept = find_named(store, condemned, erased=Graveyard(federation).covers)
            dropped = _drop(store, [each for each in condemned if each not in spared | kept], is_quiet=is_quiet)
        finally:
            store.delete(COLLECTING)
    done = dropped | kept
    for name, sent in old.items():
        if all(part.digest in done for part in sent.new):
            store.delete(name.key)
    if dropped:
        logger.info("%s: dropped %d parts that nobody committed", federation.settings.name, len(dropped))
    return len(dropped)


def find_named(
    store: ObjectStore, digests: Collection[str], *, erased: Callable[[str], bool] = lambda _: False
) -> set[str]:
    """Return those of the digests that a journal, a release or a contribution's manifest names.

    Args:
        store: Where the documents lie.
        digests: The digests.
        erased: Tells whether an object that is gone was erased on purpose: it names nothing any more.

    Raises:
        StorageError: The store fails.
        CodecError: A document is damaged or gone, so that nobody knows what it named.
    """
    wanted, found = set(digests), set()
    followed: set[str] = set()
    for key in _documents(store):
        named = digests_in(store.get(key), key)
        found |= named & wanted
        if key.endswith(_RECEIVED):
            contribution = key.rpartition("/")[2].removesuffix(_RECEIVED)
            if store.head(object_key(contribution)) is not None or not erased(contribution):
                found |= _digests_of_manifest(store, contribution) & wanted
            followed.add(contribution)
        elif key.startswith("rounds/"):  # contributions that were carried over, and what a later version names
            for digest in named - followed:
                with suppress(ObjectNotFoundError):  # most are digests of something else
                    if store.get(object_key(digest), length=1) == b"{":
                        found |= _digests_of_manifest(store, digest) & wanted
            followed |= named
    return found


def _documents(store: ObjectStore) -> Iterator[str]:
    """Return the keys of everything that may name objects."""
    after: str | None = None
    while True:
        page = store.list("", after=after)
        for key in page.keys:
            if not key.startswith(_NAMELESS):
                yield key
        if page.next_after is None:
            return
        after = page.next_after
        if after.startswith("objects/"):
            after = _AFTER_OBJECTS
        elif after.startswith("uploads/"):
            after = _AFTER_UPLOADS


def digests_in(data: bytes, key: str) -> set[str]:
    """Return what looks like a digest in a document, and in what it has signed: that is text in base64."""
    signed = b""
    if key.startswith(_NAMING) and not key.endswith(_SIGNATURE):
        try:
            fields = json.loads(data)
            if isinstance(fields, dict) and isinstance(fields.get("payload"), str):
                signed = base64.b64decode(fields["payload"], validate=True)
        except (ValueError, RecursionError) as error:  # cut off or damaged
            raise CodecError(f"{key}: is damaged, so nobody knows what it names ({error})") from error
    return {match.decode() for text in (data, signed) for match in _DIGEST.findall(text)}


def _digests_of_manifest(store: ObjectStore, digest: str) -> set[str]:
    try:
        data = store.get(object_key(digest))
    except ObjectNotFoundError as error:
        raise CodecError(f"the manifest {digest} is gone, so nobody knows which parts it names") from error
    if sha256(data) != digest:
        raise CodecError(f"the manifest {digest} is damaged, so nobody knows which parts it names")
    return digests_in(data, "")


def _named_by(store: ObjectStore, names: Iterable[ListName]) -> set[str]:
    return {part.digest for sent in read_lists(store, names).values() for part in sent.parts}


def _drop(store: ObjectStore, digests: Iterable[str], *, is_quiet: Callable[[], bool]) -> set[str]:
    dropped: set[str] = set()
    end_s = time.monotonic() + _MAX_DROPPING_S
    for digest in digests:
        if not is_quiet() or time.monotonic() >= end_s:
            break
        store.delete(object_key(digest))
        dropped.add(digest)
    return dropped


def announce(store: ObjectStore, digests: list[str], *, now_s: float) -> bool:
    """Say what is to be dropped; False if another collector is at it. One that died is forgotten."""
    announcement = Announcement(digests=tuple(digests), announced_at_s=now_s)
    if store.put_if_absent(COLLECTING, encode(announcement)):
        return True
    other = _read_announcement(store)
    if other is None or abs(now_s - other.announced_at_s) >= STALE_S:
        store.delete(COLLECTING)  # the next run announces
    return False


def _read_announcement(store: ObjectStore) -> Announcement | None:
    try:
        return decode(Announcement, store.get(COLLECTING), what=COLLECTING)
    except (ObjectNotFoundError, CodecError):
        return None
