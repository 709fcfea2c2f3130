"""Channels that several operators sign: whether a proposed step still fits, and how it is published."""

from __future__ import annotations

import time

from coldfuse.core.serialization import encode
from coldfuse.errors import CodecError, ConflictError, ObjectNotFoundError, TrustError
from coldfuse.registry.signed import seal_signed
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.channel import SignedChannel, channel_key, read_channel
from coldfuse.trust.reading import MAX_CHANNEL_BYTES
from coldfuse.trust.view import Known


def fits(store: ObjectStore, proposed: SignedChannel, known: Known) -> bool:
    """Tell whether a proposed step of a channel still continues from where that is, or is done already."""
    if proposed.federation != known.fingerprint or proposed.expires_at_s < time.time():
        return False
    try:
        there, _ = _read(store, proposed.name, known)
    except (CodecError, TrustError):
        return False
    if there is None:
        return proposed.name != "latest"
    return there == proposed or _continues(proposed, there)


def put_channel(store: ObjectStore, proposed: SignedChannel, envelope: bytes, known: Known) -> None:
    """Write a channel that enough operators have signed; done again, it is success.

    Raises:
        ConflictError: Somebody else has moved it meanwhile.
    """
    there, etag = _read(store, proposed.name, known)
    if there is not None and encode(there) == encode(proposed):
        return
    if there is not None and not _continues(proposed, there):
        raise ConflictError(
            f"channel {proposed.name}: points to release {there.release} by now; look at it, and propose it again"
        )
    store.compare_and_swap(channel_key(proposed.name), seal_signed(envelope, what="channel"), etag=etag)


def _continues(proposed: SignedChannel, there: SignedChannel) -> bool:
    if proposed.version <= there.version:
        return False
    if proposed.rollback == there.rollback:
        return proposed.name != "latest"  # that one is moved by rounds and steps back alone
    last, step = there.rollback.number if there.rollback else 0, proposed.rollback
    return step is not None and (step.number, step.left_manifest) == (last + 1, there.manifest)


def _read(store: ObjectStore, name: str, known: Known) -> tuple[SignedChannel | None, str | None]:
    try:
        data, etag = store.get_with_etag(channel_key(name))
    except ObjectNotFoundError:
        return None, None
    if len(data) > MAX_CHANNEL_BYTES:
        raise CodecError(f"channel {name}: is too long to be one")
    return read_channel(data, name, root=known.root, federation=known.fingerprint), etag
