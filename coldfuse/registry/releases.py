"""Release manifests by number, verified, and found elsewhere where they are damaged.

A manifest `releases/<n>.json` is not named by its SHA-256. But the same bytes lie under it as an object, which the
entry `fused` of the round names; that of release 0 is named by the settings. So bytes that are an object's, too, are a
manifest as it was written, and a damaged one is found again by the journal.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.errors import CodecError, DamagedObjectError, ObjectNotFoundError
from coldfuse.registry.damage import name_damage
from coldfuse.registry.journal import Journal
from coldfuse.registry.objects import Objects
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.rereading import ADVICE, TRIES, pause

log = logging.getLogger(__name__)

_FOLDER = "releases/"

_ROUNDS_AHEAD = 100
"""Number of abandoned rounds in a row that are looked through for one that made a release."""


def release_key(number: int) -> str:
    """Return the key of a release's manifest."""
    return f"{_FOLDER}{number:05d}.json"


def channel_to(manifest: ReleaseManifest) -> Channel:
    """Return a pointer to a release."""
    return Channel(
        release=manifest.release,
        round=manifest.round,
        manifest=sha256(encode(manifest)),
        model_digest=manifest.model_digest,
    )


def is_manifest(store: ObjectStore, data: bytes, *, release_zero: str = "") -> bool:
    """Tell whether these bytes are a release's manifest as it was written."""
    digest = sha256(data)
    return digest == release_zero or Objects(store).has(digest, len(data))


def find_release(store: ObjectStore, number: int, *, release_zero: str) -> bytes | None:
    """Return a release's manifest as it was written; None if there is none.

    Raises:
        DamagedObjectError: It is damaged, and nothing says what it was.
    """
    for attempt in range(TRIES):
        pause(attempt)
        try:
            data = store.get(release_key(number))
        except ObjectNotFoundError:
            return _find_object(store, number, release_zero)
        if is_manifest(store, data, release_zero=release_zero):
            return data
    found = _find_object(store, number, release_zero)
    if found is None:
        raise name_damage(store, release_key(number), "it is not what was published", advice=ADVICE)
    log.warning("%s %s is damaged; taken from its object", store.url, release_key(number))
    return found


def find_latest(store: ObjectStore, *, release_zero: str) -> Channel | None:
    """Return a pointer to the newest release that is there; None if there is none."""
    for number in reversed(list(list_releases(store))):
        try:
            data = find_release(store, number, release_zero=release_zero)
            if data is not None:
                return channel_to(decode(ReleaseManifest, data, what=release_key(number)))
        except (CodecError, DamagedObjectError) as error:
            log.warning("%s", error)
    return None


def list_releases(store: ObjectStore) -> Iterator[int]:
    """List the numbers of the releases whose manifests are there, damaged or not."""
    after: str | None = None
    while True:
        page = store.list(_FOLDER, after=after)
        names = (key.removeprefix(_FOLDER).removesuffix(".json") for key in page.keys)
        yield from (int(name) for name in names if name.isdecimal())
        if page.next_after is None:
            return
        after = page.next_after


def _find_object(store: ObjectStore, number: int, release_zero: str) -> bytes | None:
    """Return a release's manifest from the object that the settings, or its round, name; None if they name none."""
    if number:
        return _fused_by(store, number)
    try:
        return Objects(store).get(release_zero)
    except DamagedObjectError:
        return None


def _fused_by(store: ObjectStore, number: int) -> bytes | None:
    """Look for the round that made a release, from the one on that made the release before."""
    try:
        before = decode(ReleaseManifest, store.get(release_key(number - 1)), what="")
    except (ObjectNotFoundError, CodecError):
        before = None
    first = before.round + 1 if before else number
    first = max(first, 1)
    for round_number in range(first, first + _ROUNDS_AHEAD):
        state = Journal(store, round_number).state()
        if state.opened is None and state.fused is None:
            return None
        if state.fused is None:
            continue
        try:
            data = Objects(store).get(state.fused.manifest)
            if decode(ReleaseManifest, data, what="").release == number:
                return data
        except (DamagedObjectError, CodecError):
            return None
    return None
