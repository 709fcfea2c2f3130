"""Whose the manifest of a release is.

Where nothing is signed, bytes that are an object's, too, are a manifest as it was written. Whoever can write to the
store can write that as well: where releases are signed, an aggregator's signature alone counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from coldfuse.core.federation import FederationSettings
from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode, encode, sha256
from coldfuse.errors import CodecError, ConflictError, SignatureError
from coldfuse.registry.journal import Journal
from coldfuse.registry.objects import Objects
from coldfuse.registry.releases import find_release, is_manifest, read_statement_of, release_key
from coldfuse.storage.base import ObjectStore, get_if_there
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.view import TrustView

log = logging.getLogger(__name__)


def find_manifest(
    store: ObjectStore,
    settings: FederationSettings,
    trust: TrustView | None,
    *,
    number: int,
    journal: Callable[[int], Journal],
) -> bytes | None:
    """Return a release's manifest as it was signed, if it has to be; else, and in all else, as `find_release`."""

    def is_signed(data: bytes) -> bool:
        return is_ours(store, settings, trust, data) and decode(ReleaseManifest, data, what="").release == number

    has_to_be = trust is not None and settings.is_signed_release(number)
    return find_release(
        store, number, release_zero=settings.release_zero, journal=journal, is_ours=is_signed if has_to_be else None
    )


def is_ours(store: ObjectStore, settings: FederationSettings, trust: TrustView | None, manifest: bytes) -> bool:
    """Tell whether an aggregator of the federation, of today or before, has signed a release, if it has to be."""
    try:
        said = decode(ReleaseManifest, manifest, what="a release")
        if trust is None or not settings.is_signed_release(said.release):
            return True
        trust.known()  # reads the roots
        _require_signed(store, said, manifest, trust.all_keys("aggregator"))
    except (CodecError, SignatureError) as error:
        log.warning("%s: a release is passed over: %s", store.url, error)
        return False
    return True


def is_anothers(
    store: ObjectStore, settings: FederationSettings, trust: TrustView | None, manifest: bytes, number: int
) -> bool:
    """Tell whether what lies in the place of a release was published by somebody who may; else it gives way."""
    if trust is None or not settings.is_signed_release(number):
        return is_manifest(store, manifest)
    try:
        said = decode(ReleaseManifest, manifest, what=release_key(number))
        _require_signed(store, said, manifest, trust.known().root.keys_of("aggregator"))
    except (CodecError, SignatureError) as error:
        key = release_key(number)
        log.warning("%s %s: somebody who may not has put it there, it gives way: %s", store.url, key, error)
        return False
    return said.release == number


def write_manifest(
    store: ObjectStore, settings: FederationSettings, trust: TrustView | None, manifest: ReleaseManifest
) -> None:
    """Write a release's manifest, also in the place of what is damaged, or was put there by somebody who may not.

    Raises:
        ConflictError: Another aggregator has published a release of this number, or does at the same time.
    """
    data, key = encode(manifest), release_key(manifest.release)
    if not is_manifest(store, data):  # its bytes are verified by that they are an object's, too
        Objects(store).put_value(manifest)
    if store.put_if_absent(key, data):
        return
    there, etag = store.get_with_etag(key)
    if there == data:
        return
    if is_anothers(store, settings, trust, there, manifest.release):
        raise ConflictError(f"release {manifest.release} was published by another aggregator")
    store.compare_and_swap(key, data, etag=etag)


def require_next(manifest: ReleaseManifest, current: Channel) -> None:
    """Raise `ConflictError` for a release that does not continue the one that `latest` points to."""
    if current.release == manifest.release:
        raise ConflictError(f"release {manifest.release} was published by another aggregator")
    if current.release != manifest.continues:
        raise ConflictError(
            f"release {manifest.release} continues {manifest.parent}, but {current.release} is the latest"
        )
    if current.rollback is not None and manifest.round <= current.rollback.round:
        raise ConflictError(f"round {manifest.round} makes no release any more: {current.rollback.ending}")


def next_number(store: ObjectStore, settings: FederationSettings, trust: TrustView | None, *, pointer: Channel) -> int:
    """Return the number of the release that is made next: none is used twice.

    A round that a step back has ended may have written its release, to which no channel has ever pointed.
    """
    number = pointer.newest + 1
    if pointer.rollback is None or pointer.release > pointer.rollback.newest:
        return number
    while is_taken(store, settings, trust, number=number):
        number += 1
    return number


def is_taken(
    store: ObjectStore,
    settings: FederationSettings,
    trust: TrustView | None,
    *,
    number: int,
    own: ReleaseManifest | None = None,
) -> bool:
    """Tell whether somebody who may has written a release of this number that is not `own`."""
    there = get_if_there(store, release_key(number), length=MAX_MANIFEST_BYTES + 1)
    if there is None or (own is not None and there == encode(own)):
        return False
    return is_anothers(store, settings, trust, there, number)


def _require_signed(store: ObjectStore, said: ReleaseManifest, data: bytes, keys: Sequence[PublicKey]) -> None:
    if read_statement_of(store, said, digest=sha256(data), keys=keys) is None:
        raise SignatureError(f"release {said.release}: nobody has signed it")
