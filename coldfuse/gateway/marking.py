"""What is needed in a store, what is not any more, and why.

Needed are the files of the releases that are kept, the contributions of the releases whose contributions are, all that
a round in which something may still happen names, and every part of an upload that is not committed yet. Manifests are
always needed, whoever they are of: they are small, and what names others is never in the way.
"""

from __future__ import annotations

import sys
import time
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.retention import Collected, Kept, RetentionRules, decide_kept
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode
from coldfuse.errors import ObjectNotFoundError
from coldfuse.gateway.leftovers import digests_in
from coldfuse.gateway.sent import find_lists, read_lists
from coldfuse.registry.channels import CANDIDATE
from coldfuse.registry.collected import CollectedSoFar
from coldfuse.registry.damage import DAMAGED
from coldfuse.registry.federation import Federation
from coldfuse.registry.inventory import first_unsettled, list_rounds, needs
from coldfuse.registry.objects import object_key
from coldfuse.registry.published import find_manifest
from coldfuse.registry.releases import list_releases
from coldfuse.storage.base import ObjectInfo, ObjectStore, list_keys

_FILES = "files of releases that the rules do not keep"
_DELTAS = "contributions of releases that the rules do not keep"
_NOTHING = "needed by nothing: rejected, replaced, or never finished"
_DAMAGED = "damaged, and out of the way since"

PARALLEL_REQUESTS = 16
"""Number of objects that are looked at or removed at a time: a store far away takes its time for each answer."""


@dataclass
class Marks:
    """A set of digests in eight bytes each: two with the same first 64 bits count as one, which removes too little."""

    _new: bytearray = field(default_factory=bytearray)
    _sorted: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, digest: str) -> None:
        """Add a digest."""
        self._new += bytes.fromhex(digest[:16])

    def __contains__(self, digest: str) -> bool:
        """Tell whether a digest was added, or one that begins like it."""
        if self._new:
            self._sorted.frombytes(self._new)
            self._new.clear()
            self._sorted = array("Q", sorted(set(self._sorted)))
        wanted = int.from_bytes(bytes.fromhex(digest[:16]), sys.byteorder)
        place = bisect_left(self._sorted, wanted)
        return place < len(self._sorted) and self._sorted[place] == wanted


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An object that nothing needs."""

    key: str
    digest: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Marked:
    """What is needed, and what is not needed any more, as it was when it was looked at."""

    kept: Kept
    gone: Collected
    live: Marks
    files: Marks
    """Objects of the files of releases that are not kept; some of them are needed by others."""
    deltas: Marks
    since: int
    """Number of the first round in which something could still happen then."""


def mark(federation: Federation, rules: RetentionRules) -> Marked:
    """Look at what is needed.

    Args:
        federation: The federation.
        rules: How much is kept.

    Raises:
        CodecError: A document is damaged, so that nobody knows what it names.
        DamagedObjectError: A release is damaged, or is nobody's who may.
        StorageError: The store is away.
    """
    since = first_unsettled(federation)
    named = set(named_lately(federation, since))  # first: what is taken into use meanwhile is found by the last look
    releases, before = list(_releases(federation)), CollectedSoFar(federation).releases
    targets, bases = _targets(federation), _bases(federation, since)
    kept = decide_kept(rules, releases, targets=targets, collected=before, bases=bases)
    live, files, deltas = Marks(), Marks(), Marks()
    for digest in named:
        live.add(digest)
    for need in needs(federation, kept=kept):
        live.add(need.digest)
    numbers = frozenset(release.release for release in releases)
    fused = frozenset(release.release for release in releases if release.parent is not None)
    for need in needs(federation, kept=Kept(files=numbers, deltas=frozenset())) if numbers - kept.files else ():
        files.add(need.digest)
    for need in needs(federation, kept=Kept(files=frozenset(), deltas=numbers)) if fused - kept.deltas else ():
        deltas.add(need.digest)
    gone = Collected(
        federation=federation.settings.federation, files=tuple(sorted(numbers - kept.files)),
        deltas=tuple(sorted(fused - kept.deltas)), collected_at_s=time.time(),
    )  # fmt: skip
    return Marked(kept=kept, gone=gone, live=live, files=files, deltas=deltas, since=since)


def _releases(federation: Federation) -> Iterator[ReleaseManifest]:
    store, settings, trust = federation.store, federation.settings, federation.trust
    for number in list_releases(store):
        data = find_manifest(store, settings, trust, number=number, journal=federation.journal)
        if data is not None:
            yield decode(ReleaseManifest, data, what=f"release {number}")


def _targets(federation: Federation) -> set[int]:
    """Return the releases that channels point to.

    What is a candidate is no release yet: its files stay as what the channel names.
    """
    return {federation.channel(name).release for name in federation.pointers.names() if name != CANDIDATE}


def _bases(federation: Federation, since: int) -> set[int]:
    """Return the releases that rounds from this one on stand on that are not over."""
    states = [federation.journal(number).led() for number in list_rounds(federation.store) if number >= since]
    return {state.opened.base_release for state in states if state.opened is not None and not state.is_over}


def named_lately(federation: Federation, since: int) -> Iterator[str]:
    """Yield every digest that a channel, an unfinished upload or a round from this one on names, or its manifests.

    Digests are looked for in the text of these documents, so that a kind of reference which a later version adds
    counts, too.

    Raises:
        CodecError: A document is damaged, so that nobody knows what it names.
    """
    store, followed = federation.store, set[str]()
    for key in _documents(federation, since):
        try:
            named = digests_in(store.get(key), key)
        except ObjectNotFoundError:
            continue  # a pointer or a list that was removed since it was listed
        named |= {key.rpartition("/")[2].removesuffix("-received")} if key.endswith("-received") else set()
        yield from named
        for digest in named - followed:
            yield from _named_by(store, digest)
        followed |= named
    for sent in read_lists(store, find_lists(store)).values():
        yield from (part.digest for part in sent.parts)


def _documents(federation: Federation, since: int) -> Iterator[str]:
    yield from list_keys(federation.store, "channels/")
    for number in list_rounds(federation.store):
        if number >= since:
            yield from list_keys(federation.store, f"rounds/{number:05d}/")


def _named_by(store: ObjectStore, digest: str) -> set[str]:
    """Return what an object names, if it is a manifest."""
    if not _is_manifest(store, digest):
        return set()
    try:
        return digests_in(store.get(object_key(digest)), "")
    except ObjectNotFoundError:
        return set()


def _is_manifest(store: ObjectStore, digest: str) -> bool:
    info = store.head(object_key(digest))
    return info is not None and _begins_as_manifest(store, object_key(digest), info)


def _begins_as_manifest(store: ObjectStore, key: str, info: ObjectInfo) -> bool:
    if info.size_bytes > MAX_MANIFEST_BYTES:
        return False
    try:
        return store.get(key, length=1) == b"{"
    except ObjectNotFoundError:
        return False


def candidates(store: ObjectStore, marked: Marked) -> Iterator[Candidate]:
    """List the objects that nothing needs."""
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
        for prefix in ("objects/", "checks/", DAMAGED):
            todo = _not_needed(store, marked, prefix)
            # So many at a time, and not all that a store holds: what is under way is in memory.
            while batch := list(islice(todo, PARALLEL_REQUESTS * 16)):
                found = pool.map(lambda each: _look(store, *each), batch)
                yield from (candidate for candidate in found if candidate is not None)


def _not_needed(store: ObjectStore, marked: Marked, prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield key, digest and reason of each object that no mark spares; one thread alone may ask marks."""
    for key in list_keys(store, prefix):
        digest = key.removeprefix(prefix)
        reason = _DAMAGED if prefix == DAMAGED else _reason(digest, marked)
        if reason is not None:
            yield key, digest, reason


def _look(store: ObjectStore, key: str, digest: str, reason: str) -> Candidate | None:
    info = store.head(key)
    if info is None:
        return None
    if reason == _NOTHING and key == object_key(digest) and _begins_as_manifest(store, key, info):
        return None
    return Candidate(key=key, digest=digest, size_bytes=info.size_bytes, reason=reason)


def _reason(digest: str, marked: Marked) -> str | None:
    """Return why an object is needed by nobody; None where it is needed, or is none."""
    if len(digest) != 64 or set(digest) - set("0123456789abcdef") or digest in marked.live:
        return None
    if digest in marked.files:
        return _FILES
    return _DELTAS if digest in marked.deltas else _NOTHING
