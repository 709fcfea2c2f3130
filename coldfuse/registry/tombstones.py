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
from coldfuse.errors import CodecError, ObjectNotFoundError, TrustError
from coldfuse.registry.federation import Federation
from coldfuse.registry.records import put_record, read_record, record_keys

log = logging.getLogger(__name__)

FOLDER = "tombstones/"


def put_tombstone(federation: Federation, tombstone: Tombstone) -> None:
    """Write a tombstone; writing the same again is success.

    Raises:
        NotAllowedError: There is a root, and no aggregator's key.
    """
    put_record(federation, FOLDER, "tombstone", tombstone)


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
        for key in record_keys(self._federation.store, FOLDER):
            try:
                yield read_record(self._federation, key, "tombstone", Tombstone)
            except (CodecError, TrustError, ObjectNotFoundError) as error:
                log.warning("a tombstone covers nothing: %s", error)
