"""Records of what the retention rules have removed.

    collected/<sha256>.json     a record, named by its own bytes; signed by the aggregator, where there is a root

A record is written before anything is removed, and says what may be gone from then on.
"""

from __future__ import annotations

import logging
from functools import cached_property

from coldfuse.core.retention import Collected, Kept
from coldfuse.errors import CodecError, ObjectNotFoundError, TrustError
from coldfuse.registry.federation import Federation
from coldfuse.registry.records import put_record, read_record, record_keys

log = logging.getLogger(__name__)

FOLDER = "collected/"


def put_collected(federation: Federation, collected: Collected) -> None:
    """Write a record, unless others say it already.

    Raises:
        NotAllowedError: There is a root, and no aggregator's key.
    """
    before = CollectedSoFar(federation).releases
    if set(collected.files) <= before.files and set(collected.deltas) <= before.deltas:
        return
    put_record(federation, FOLDER, "collected", collected)


class CollectedSoFar:
    """What was removed in one federation. The records are read once, when somebody misses something."""

    def __init__(self, federation: Federation) -> None:
        """Take whose they are; nothing is read yet."""
        self._federation = federation

    @cached_property
    def releases(self) -> Kept:
        """Numbers of the releases whose files, and whose contributions, may be gone."""
        files: set[int] = set()
        deltas: set[int] = set()
        for key in record_keys(self._federation.store, FOLDER):
            try:
                record = read_record(self._federation, key, "collected", Collected)
            except (CodecError, TrustError, ObjectNotFoundError) as error:
                log.warning("a record of what was collected counts for nothing: %s", error)
                continue
            files |= set(record.files)
            deltas |= set(record.deltas)
        return Kept(files=frozenset(files), deltas=frozenset(deltas))
