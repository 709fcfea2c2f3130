"""Looking at a store that nobody vouches for: everything is bounded, and what is wrong is noted, not raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from coldfuse.core.sealed import has_seal, unseal
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, V
from coldfuse.core.words import printable
from coldfuse.errors import CodecError, ColdfuseError, ObjectNotFoundError, StorageError
from coldfuse.storage.base import ObjectStore
from coldfuse.verification.causes import Cause, cause_of
from coldfuse.verification.findings import Findings

MAX_BYTES = 2 * MAX_MANIFEST_BYTES
"""Bytes of one signed or sealed thing that are read: a payload in base64 is a third longer."""

MAX_NOTES = 100
MAX_NOTE_CHARS = 600


@dataclass
class Inspection:
    """One look at a store."""

    store: ObjectStore
    at_s: float
    """Seconds since 1970 at which it is judged what has expired."""
    findings: Findings = field(default_factory=Findings)
    notes: list[str] = field(default_factory=list)
    looked_at: Counter[str] = field(default_factory=Counter)
    needs_seals: bool = False
    """Whether what nobody signs has to have a seal."""
    keys: set[str] = field(default_factory=set)
    """Keys that were read and judged."""

    def read(self, key: str) -> bytes | None:
        """Return what lies under a key; None where there is nothing, or it cannot be read."""
        self.keys.add(key)
        try:
            return self.store.get(key, length=MAX_BYTES)
        except ObjectNotFoundError:
            return None
        except StorageError as error:
            if error.may_pass:
                raise
            self.add(Cause.DIGEST, key, f"cannot be read: {error}")
            return None

    def unseal(self, kind: type[V], data: bytes, *, key: str) -> V | None:
        """Return a value that nobody signs, if its seal is right; None, and why is noted, where it is not.

        Where there is a root, no version was at work that made no seals.
        """
        with self.noting(key):
            if self.needs_seals and not has_seal(data):
                raise CodecError("has no seal; it was altered")
            return unseal(kind, data, what=key)
        return None

    def add(self, cause: Cause, where: str, why: str) -> None:
        """Note a finding."""
        self.findings.add(cause, where, why)

    def error(self, where: str, error: ColdfuseError) -> None:
        """Note what an error is a sign of; raises it where the store is away."""
        if isinstance(error, StorageError) and error.may_pass:
            raise error
        self.add(cause_of(error), where, str(error).removeprefix(f"{where}: "))

    @contextmanager
    def noting(self, where: str) -> Iterator[None]:
        """Note what is raised in the block, and go on after it."""
        try:
            yield
        except ColdfuseError as error:
            self.error(where, error)

    def note(self, text: str) -> None:
        """Note what is nobody's fault, once."""
        shown = printable(text[:MAX_NOTE_CHARS], instead=" ")
        if shown not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes.append(shown)

    def gaps(self, numbers: Iterable[int], first: int, last: int) -> Iterator[str]:
        """Return what is missing among numbers, a run at a time: whoever can write a name makes a gap of any size."""
        expected = first
        for number in sorted(number for number in set(numbers) if first <= number <= last):
            if number > expected:
                yield _run(expected, number - 1)
            expected = number + 1
        if expected <= last:
            yield _run(expected, last)


def _run(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
