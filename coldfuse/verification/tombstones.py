"""What was erased on purpose: an object that is missing, and has a signed tombstone, is not lost."""

from __future__ import annotations

from itertools import islice

from coldfuse.core.retraction import Tombstone
from coldfuse.core.sealed import unseal
from coldfuse.core.serialization import decode
from coldfuse.errors import CodecError
from coldfuse.registry.tombstones import FOLDER, MAX_TOMBSTONES, tombstone_key
from coldfuse.storage.base import list_keys
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.signers import Signers


class Graves:
    """The tombstones of a store, verified; one that is not believed covers nothing, and is named."""

    def __init__(self, look: Inspection, signers: Signers | None) -> None:
        """Read them.

        Args:
            look: The store, and where findings are noted.
            signers: Who may sign them; None where nothing is signed.
        """
        self._look = look
        self._there: list[Tombstone] = []
        for key in islice(list_keys(look.store, FOLDER), MAX_TOMBSTONES):
            with look.noting(key):
                self._there.append(self._read(key, signers))
        look.looked_at["tombstones"] += len(self._there)

    def covers(self, digest: str, what: str) -> bool:
        """Tell whether an object was erased on purpose; that is noted.

        Args:
            digest: SHA-256 of the object.
            what: What it is of, for people.
        """
        found = next((one for one in self._there if one.covers(digest)), None)
        if found is None:
            return False
        since = f"out of the fusion since release {found.release}, " if found.release is not None else ""
        self._look.note(f"{what}: retracted, {since}and erased; a tombstone says so")
        return True

    def _read(self, key: str, signers: Signers | None) -> Tombstone:
        data = self._look.read(key) or b""
        if signers is None:
            tombstone = unseal(Tombstone, data, what=key)
        else:
            payload, _ = signers.verified(data, "tombstone", "aggregator", what=key)
            tombstone = decode(Tombstone, payload, what=key)
        if key != tombstone_key(tombstone):
            raise CodecError(f"{key}: is not what it is named by")
        return tombstone
