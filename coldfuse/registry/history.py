"""The history of a document that operators change, such as a federation's settings.

The document holds its last change. Before it is swapped for the next version, that change is written to a place of its
own, `<folder>/<00001>.json`, where it stays. So the swap is the only switch: killed before it, a writer has changed
nothing, and after it, all is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from coldfuse.core.federation import SettingsChange
from coldfuse.core.quarantine import QuarantineChange
from coldfuse.core.sealed import seal, unseal
from coldfuse.errors import CodecError, FederationError, ObjectNotFoundError
from coldfuse.registry.reading import read_again
from coldfuse.storage.base import ObjectStore

C = TypeVar("C", SettingsChange, QuarantineChange)


@dataclass(frozen=True, kw_only=True)
class History(Generic[C]):
    """Where the changes of one document lie."""

    kind: type[C]
    """Class of a change."""
    document: str
    """Key of the document, which holds the last change."""
    folder: str
    """Folder of all changes before that one."""

    def key(self, number: int) -> str:
        """Return the place of a change."""
        return f"{self.folder}/{number:05d}.json"

    def keep(self, store: ObjectStore, change: C) -> None:
        """Write the document's last change to its place, before the document is swapped.

        Raises:
            FederationError: The place holds another change, so somebody has restored an older document.
        """
        key = self.key(change.number)
        if not store.put_if_absent(key, seal(change)) and self._read(store, change.number) != change:
            raise FederationError(
                f"{store.url}: {key} holds another change than {self.document}, so an older {self.document} was "
                f"restored; restore the newest one, or move the files in {self.folder}/ from {change.number:05d}.json "
                "on away"
            )

    def list(self, store: ObjectStore, last: C | None) -> Iterator[C]:
        """List the changes, newest first; what is not asked for is not read.

        Args:
            store: The federation's store.
            last: The change that the document holds.

        Raises:
            FederationError: One of them is missing, or is not what the history says.
        """
        change, number = last, last.number if last else 0
        while change is not None:
            if change.number != number:
                raise self._broken(store, number, f"it calls itself number {change.number}")
            yield change
            number -= 1
            change = self._read(store, number) if number else None

    def _read(self, store: ObjectStore, number: int) -> C:
        key = self.key(number)
        try:
            return read_again(store, key, lambda data: unseal(self.kind, data, what=key))[0]
        except (ObjectNotFoundError, CodecError) as error:
            raise self._broken(store, number, str(error)) from error

    def _broken(self, store: ObjectStore, number: int, why: str) -> FederationError:
        return FederationError(
            f"{store.url}: change {number} of the {self.folder} cannot be read ({why}); restore {self.key(number)} "
            "from a copy of the store"
        )
