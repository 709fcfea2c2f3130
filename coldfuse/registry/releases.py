"""Release manifests by number, verified, and found elsewhere where they are damaged.

A manifest `releases/<n>.json` is not named by its SHA-256. But the same bytes lie under it as an object, which the
entry `fused` of the round names; that of release 0 is named by the settings. So bytes that are an object's, too, are a
manifest as it was written, and a damaged one is found again by the journal. That is about damage: whoever can write to
the store can write an object, too, so who reads a release verifies its signature, and so does who continues one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.rollback import Rollback
from coldfuse.core.round import RoundState
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode, encode, sha256
from coldfuse.errors import CodecError, DamagedObjectError, ObjectNotFoundError
from coldfuse.registry.damage import name_damage
from coldfuse.registry.journal import Journal
from coldfuse.registry.objects import Objects
from coldfuse.registry.trust import read_signed
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.tensors.rereading import ADVICE, TRIES, pause
from coldfuse.trust.envelope import verified
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.provenance import Statement, read_statement, require_about, statement_key

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


def is_manifest(store: ObjectStore, data: bytes) -> bool:
    """Tell whether these bytes are a release's manifest as it was written, where nobody signs that."""
    return Objects(store).has(sha256(data), len(data))


def find_release(
    store: ObjectStore,
    number: int,
    *,
    release_zero: str,
    journal: Callable[[int], Journal],
    is_ours: Callable[[bytes], bool] | None = None,
) -> bytes | None:
    """Return a release's manifest as it was written; None if there is none.

    Args:
        store: The federation's store.
        number: The release's number.
        release_zero: Digest of the manifest of release 0.
        journal: Returns the journal of a round.
        is_ours: Tells whether a manifest is signed, where it has to be; None: an object of the same bytes is enough.

    Raises:
        DamagedObjectError: It is damaged, and nothing says what it was.
    """
    data = b""
    for attempt in range(TRIES):
        pause(attempt)
        try:
            data = store.get(release_key(number), length=MAX_MANIFEST_BYTES + 1)
        except ObjectNotFoundError:
            break
        if number == 0 and sha256(data) == release_zero:
            return data
        if is_manifest(store, data) if is_ours is None else is_ours(data):
            return data
    digest = _digest_of(store, number, journal) if number else release_zero
    if digest is not None and sha256(data) == digest:  # it is the object beside it that is damaged
        return data
    found = _get(store, digest)
    if found is None and store.head(release_key(number)) is not None:
        raise name_damage(store, release_key(number), "it is not what was published", advice=ADVICE)
    if found is not None:
        log.warning("%s %s is damaged; taken from its object", store.url, release_key(number))
    return found


def find_latest(
    store: ObjectStore,
    find: Callable[[int], bytes | None],
    *,
    is_ours: Callable[[bytes], bool],
    rollback: Rollback | None = None,
) -> Channel | None:
    """Return a pointer to the newest release that is there; None if there is none.

    Args:
        store: The federation's store.
        find: Returns a release's manifest as it was written, as `find_release`.
        is_ours: Tells whether a release is the federation's, from its manifest's bytes.
        rollback: The last step back to an older release; what was made before it does not count.
    """
    for number in reversed(list(list_releases(store))):
        try:
            data = find(number)
            if data is None or not is_ours(data):
                continue
            manifest = decode(ReleaseManifest, data, what=release_key(number))
            if rollback is None or follows(rollback, manifest):
                return channel_to(manifest).model_copy(update={"rollback": rollback})
        except (CodecError, DamagedObjectError) as error:
            log.warning("%s", error)
    return None


def follows(rollback: Rollback, manifest: ReleaseManifest) -> bool:
    """Tell whether a release is the one that was stepped back to, or was made after that and from it."""
    if manifest.release == rollback.release:
        return True
    before = manifest.continues if manifest.continues is not None else -1
    return manifest.round > rollback.round and (before == rollback.release or before > rollback.newest)


def list_releases(store: ObjectStore) -> Iterator[int]:
    """List the numbers of the releases whose manifests are there, damaged or not."""
    names = (key.removeprefix(_FOLDER).removesuffix(".json") for key in list_keys(store, _FOLDER))
    yield from (int(name) for name in names if name.isdecimal())


def _digest_of(store: ObjectStore, number: int, journal: Callable[[int], Journal]) -> str | None:
    """Return the digest of a release's manifest, from the journal of the round that made it; None if none did."""
    try:
        before = decode(
            ReleaseManifest, store.get(release_key(number - 1), length=MAX_MANIFEST_BYTES + 1), what=""
        ).round
    except (ObjectNotFoundError, CodecError):
        before = number - 1
    for round_number in range(before + 1, before + 1 + _ROUNDS_AHEAD):
        state = journal(round_number).state()
        if state.opened is None and state.fused is None:
            return None
        if state.fused is not None and state.has_passed and _made(store, state) == number:
            return state.fused.manifest
    return None


def _made(store: ObjectStore, state: RoundState) -> int | None:
    """Return the number of the release that a round has made, or was about to."""
    if state.published is not None:
        return state.published.release
    data = _get(store, state.fused.manifest if state.fused else None)
    if data is None:
        return state.opened.base_release + 1 if state.opened else None
    try:
        return decode(ReleaseManifest, data, what="a release").release
    except CodecError:
        return None


def _get(store: ObjectStore, digest: str | None) -> bytes | None:
    try:
        return Objects(store).get(digest) if digest else None
    except DamagedObjectError:
        return None


def read_statement_of(
    store: ObjectStore, manifest: ReleaseManifest, *, digest: str, keys: Sequence[PublicKey]
) -> Statement | None:
    """Return the statement on a release that one of these keys has signed; None where there is none.

    Raises:
        SignatureError: It is signed by nobody who may, or is about another release.
        CodecError: It is no statement.
    """
    key = statement_key(manifest.release)
    data = read_signed(store, key)
    if data is None:
        return None
    statement = read_statement(verified(data, "provenance", keys, what=key), what=key)
    require_about(statement, manifest, digest=digest, what=key)
    return statement
