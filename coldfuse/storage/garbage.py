"""Removal of what writers left that died before they finished. It was never visible; it only takes space."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from coldfuse.storage.base import ObjectStore


@runtime_checkable
class LeavesGarbage(Protocol):
    """A store in which a writer that dies leaves something behind."""

    def collect_garbage(self, *, older_than_s: float) -> int:
        """Remove leftovers that were begun or last written longer ago than this; return how many."""


def collect_garbage(store: ObjectStore, *, older_than_s: float) -> int:
    """Remove unfinished writes of dead writers from the store, and return how many.

    Args:
        store: Any store; one that leaves nothing behind has nothing to collect.
        older_than_s: On S3 nobody knows whether a writer still lives: choose an age that no upload reaches, such as a
            day, since a live one that is older fails. A local store knows by a lock, and a live writer is never hurt.
    """
    return store.collect_garbage(older_than_s=older_than_s) if isinstance(store, LeavesGarbage) else 0
