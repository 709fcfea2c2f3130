"""Tombstones: what was erased on purpose, so that nobody takes it for lost or damaged.

    tombstones/<sha256>.json    a tombstone, named by its own bytes; signed by the aggregator, where there is a root

A tombstone is written before anything is erased. Whoever misses an object asks whether one of them covers it. One that
is damaged or forged covers nothing: what it stood for is missing then, which is the safe side.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property

from coldfuse.core.retraction import Tombstone
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode, encode, sha256
from coldfuse.errors import CodecError, NotAllowedError, ObjectNotFoundError, SignatureError, TrustError
from coldfuse.registry.federation import Federation
from coldfuse.registry.signed import check_sealed, write_signed
from coldfuse.storage.base import list_keys
from coldfuse.trust.envelope import verified

log = logging.getLogger(__name__)

FOLDER = "tombstones/"

MAX_TOMBSTONES = 10_000
"""Number of tombstones that are read: whoever can write to the store can put any number there."""


def tombstone_key(tombstone: Tombstone) -> str:
    """Return the key of a tombstone."""
    return f"{FOLDER}{sha256(encode(tombstone))}.json"


def put_tombstone(federation: Federation, tombstone: Tombstone) -> None:
    """Write a tombstone; writing the same again is success.

    Raises:
        NotAllowedError: There is a root, and no aggregator's key.
    """
    payload = encode(tombstone)
    if federation.trust is None:
        data = seal(tombstone)
    elif federation.signer is None:
        raise NotAllowedError("a tombstone is signed by the aggregator's key, and none was given")
    else:
        data = write_signed(payload, "tombstone", [federation.signer.aggregator])
    federation.store.put_if_absent(tombstone_key(tombstone), data)


class Graveyard:
    """What was erased in one federation. The tombstones are read once, when somebody misses something."""

    def __init__(self, federation: Federation) -> None:
        """Take whose they are; nothing is read yet."""
        self._federation = federation

    def covers(self, digest: str) -> bool:
        """Tell whether an object was erased on purpose."""
        return self.tombstone_of(digest) is not None

    def tombstone_of(self, digest: str) -> Tombstone | None:
        """Return the tombstone that an object has; None where it has none."""
        return next((one for one in self._tombstones if one.covers(digest)), None)

    @cached_property
    def _tombstones(self) -> list[Tombstone]:
        return list(self._read_all())

    def _read_all(self) -> Iterator[Tombstone]:
        for number, key in enumerate(list_keys(self._federation.store, FOLDER)):
            if number >= MAX_TOMBSTONES:
                log.warning("%s: more than %d tombstones, the rest is not read", FOLDER, MAX_TOMBSTONES)
                return
            try:
                yield read_tombstone(self._federation, key)
            except (CodecError, TrustError, ObjectNotFoundError) as error:
                log.warning("a tombstone covers nothing: %s", error)


def read_tombstone(federation: Federation, key: str) -> Tombstone:
    """Read a tombstone, verified.

    Raises:
        CodecError: It is damaged, or of another federation.
        TrustError: It is signed by nobody who may.
    """
    data = federation.store.get(key, length=MAX_MANIFEST_BYTES + 1)
    if federation.trust is None:
        tombstone = unseal(Tombstone, data, what=key)
    else:
        check_sealed(data, what=key)
        federation.trust.known()  # reads the roots
        keys = federation.trust.all_keys("aggregator")
        tombstone = decode(Tombstone, verified(data, "tombstone", keys, what=key), what=key)
    if tombstone.federation != federation.settings.federation:
        raise SignatureError(f"{key}: is of another federation, {tombstone.federation[:16]}")
    if key != tombstone_key(tombstone):
        raise CodecError(f"{key}: is not what it is named by")
    return tombstone
