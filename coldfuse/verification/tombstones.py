"""What was removed on purpose: an object that is missing, and has a signed record that says so, is not lost."""

from __future__ import annotations

from coldfuse.core.retention import Collected, Kept
from coldfuse.core.retraction import Tombstone
from coldfuse.core.sealed import unseal
from coldfuse.core.serialization import V, decode
from coldfuse.registry import collected, tombstones
from coldfuse.registry.records import record_keys, require_named
from coldfuse.trust.envelope import Kind
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.signers import Signers


class Graves:
    """The records of a store, verified; one that is not believed counts for nothing, and is named."""

    def __init__(self, look: Inspection, signers: Signers | None, *, federation: str) -> None:
        """Read them.

        Args:
            look: The store, and where findings are noted.
            signers: Who may sign them; None where nothing is signed.
            federation: Name of the federation.
        """
        self._look, self._signers, self._federation = look, signers, federation
        self._tombstones = self._read_all(tombstones.FOLDER, "tombstone", Tombstone)
        records = self._read_all(collected.FOLDER, "collected", Collected)
        self.collected = Kept(
            files=frozenset(number for record in records for number in record.files),
            deltas=frozenset(number for record in records for number in record.deltas),
        )
        """Numbers of the releases whose files, and whose contributions, the retention rules may have removed."""
        for what, numbers in (("files", self.collected.files), ("contributions", self.collected.deltas)):
            if numbers:
                look.note(
                    f"the {what} of {len(numbers)} releases, {min(numbers)} to {max(numbers)}, may have been removed "
                    "by the retention rules: a record says so"
                )

    def covers(self, digest: str, what: str) -> bool:
        """Tell whether an object was erased on purpose; that is noted.

        Args:
            digest: SHA-256 of the object.
            what: What it is of, for people.
        """
        found = next((one for one in self._tombstones if one.covers(digest)), None)
        if found is None:
            return False
        since = f"out of the fusion since release {found.release}, " if found.release is not None else ""
        self._look.note(f"{what}: retracted, {since}and erased; a tombstone says so")
        return True

    def _read_all(self, folder: str, kind: Kind, of: type[V]) -> list[V]:
        found = []
        for key in record_keys(self._look.store, folder):
            with self._look.noting(key):
                found.append(self._read(key, kind, of))
        self._look.looked_at["records of what was removed"] += len(found)
        return found

    def _read(self, key: str, kind: Kind, of: type[V]) -> V:
        data = self._look.read(key) or b""
        if self._signers is None:
            record = unseal(of, data, what=key)
        else:
            record = decode(of, self._signers.verified(data, kind, "aggregator", what=key)[0], what=key)
        require_named(record, key, self._federation)
        return record
