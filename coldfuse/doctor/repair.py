"""Bringing back what is damaged, from what the store itself or another place holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from coldfuse.core.serialization import sha256
from coldfuse.doctor.findings import Finding
from coldfuse.doctor.sources import Source
from coldfuse.errors import (
    CodecError,
    ConflictError,
    DamagedObjectError,
    FederationError,
    NotAllowedError,
    ObjectNotFoundError,
    TrustError,
)
from coldfuse.registry.damage import set_aside
from coldfuse.registry.federation import Federation
from coldfuse.registry.inventory import Need
from coldfuse.registry.lease import KEY as LEASE_KEY
from coldfuse.registry.releases import list_releases, release_key
from coldfuse.registry.rollbacks import keep_rollback, rollback_key
from coldfuse.registry.settings import COPY_KEY, SETTINGS_KEY, keep_copy, mend_settings, parse_settings
from coldfuse.tensors.verified import scan_part

_CANNOT = (
    ConflictError, CodecError, DamagedObjectError, FederationError, NotAllowedError, ObjectNotFoundError, TrustError
)  # fmt: skip
"""Why a repair may fail: among others, as it takes a key that is not here to sign what is written anew."""

_ANEW = "its round decides anew what it said"


@dataclass(frozen=True)
class Repair:
    """Repairs a store; each repair is one write, which no running service minds."""

    federation: Federation
    sources: Sequence[Source]

    def named(self, finding: Finding) -> Finding:
        """Bring back something that has a name of its own."""
        try:
            how = self._mend(finding.key)
        except _CANNOT as error:
            return replace(finding, advice=f"could not be repaired: {error}")
        return replace(finding, repaired=how) if how else finding

    def object(self, finding: Finding, need: Need) -> Finding:
        """Bring back an object that is named by its SHA-256."""
        if need.checked is not None:
            return self._remake_checks(finding, need)
        store = self.federation.store
        for where, data in self._candidates(need.digest):
            set_aside(store, need.digest)
            store.put_if_absent(f"objects/{need.digest}", data)
            return replace(finding, repaired=f"from {where}")
        if need.is_asked_again:
            set_aside(store, need.digest)
            return replace(finding, repaired="moved out of the way: its contributor is asked to send it again")
        return finding

    @staticmethod
    def advice(key: str, need: Need | None, *, repairs: bool) -> str:
        """Say what to do about something that is damaged still."""
        if not repairs:
            return "give --repair, which brings back what it can"
        if key.startswith("objects/") and need is not None and need.by.startswith("release"):
            return "give --from FOLDER, where that release was fetched to, or --from STORE, a copy of this store"
        if key.startswith("objects/"):
            return "its round is over, so only computing it again needs it; --from STORE takes it from a copy"
        if key == LEASE_KEY:
            return "nothing to do: a lease that nobody renews is free after its time"
        if "/journal/" in key:
            return f"nothing to do while its round is open: {_ANEW}; else --from STORE takes it from a copy"
        return "restore it from a copy of the store"

    def _candidates(self, digest: str) -> Sequence[tuple[str, bytes]]:
        store = self.federation.store
        try:
            moved = store.get(f"damaged/{digest}")
        except ObjectNotFoundError:
            moved = b""
        if moved and sha256(moved) == digest:
            return [("what was moved out of the way", moved)]
        for number in list_releases(store):  # a manifest lies under its number, too
            data = store.get(release_key(number))
            if sha256(data) == digest:
                return [(release_key(number), data)]
        found = ((str(source), source.find(digest)) for source in self.sources)
        return [(where, data) for where, data in found if data is not None][:1]

    def _remake_checks(self, finding: Finding, need: Need) -> Finding:
        store, blob = self.federation.store, need.checked
        if blob is None:
            return finding
        try:
            lists = [scan_part(store, part) for part in blob.parts]
        except DamagedObjectError as error:
            return replace(finding, advice=f"once what it verifies is repaired, repair again: {error}")
        store.delete(need.key)
        root = self.federation.objects.put_checks(lists)
        return replace(finding, repaired="from what it verifies") if root == need.digest else finding

    def _mend(self, key: str) -> str | None:
        federation, store = self.federation, self.federation.store
        if key == SETTINGS_KEY:
            return f"from {COPY_KEY}" if mend_settings(store) else None
        if key == COPY_KEY:
            store.delete(COPY_KEY)
            keep_copy(store, federation.settings)
            return f"from {SETTINGS_KEY}"
        if key == "channels/latest":
            federation.mended_latest()
            return "from the releases"
        if key.startswith("rollbacks/"):
            return self._step_back(key)
        if key.startswith("releases/"):
            number = int(key.removeprefix("releases/").removesuffix(".json"))
            return self._release(key, number)
        if key.endswith("/head"):
            return "from the last entry" if federation.journal(int(key.split("/")[1])).mend_head() else None
        if "/journal/" in key or key.startswith("settings/"):
            return self._entry(key)
        return None

    def _step_back(self, key: str) -> str | None:
        rollback = self.federation.channel("latest").rollback
        if rollback is None or rollback_key(rollback.number) != key:
            return next((self._write(key, source.named(key), f"from {source}") for source in self._copies()), None)
        keep_rollback(self.federation.store, self.federation.trust)
        return "from the channel"

    def _release(self, key: str, number: int) -> str | None:
        try:
            data = self.federation.find_release(number)
        except DamagedObjectError:
            data = None
        if data is not None:
            return self._write(key, data, "from the object that its round names")
        for source in self._copies():
            data = source.named(key)
            if data and (number == 0 or source.find(sha256(data)) == data):
                return self._write(key, data, f"from {source}")
        return None

    def _copies(self) -> Iterator[Source]:
        """List the sources that are copies of this store: no other federation has its name."""
        own = self.federation.settings.federation
        for source in self.sources:
            if _federation_of(source) == own:
                yield source

    def _entry(self, key: str) -> str | None:
        if "/journal/" in key and (data := self.federation.journal(int(key.split("/")[1])).recovered(key)):
            return self._write(key, data, "from its contribution, or the head of its journal")
        return next((self._write(key, source.named(key), f"from {source}") for source in self._copies()), None)

    def _write(self, key: str, data: bytes | None, how: str) -> str | None:
        if data is None:
            return None
        store = self.federation.store
        try:
            etag: str | None = store.get_with_etag(key)[1]
        except ObjectNotFoundError:
            etag = None
        store.compare_and_swap(key, data, etag=etag)
        return how


def _federation_of(source: Source) -> str | None:
    """Return the name of the federation that a source is a copy of; None if it is none."""
    data = source.named(SETTINGS_KEY)
    try:
        return None if data is None else parse_settings(data, where=str(source)).federation
    except (CodecError, FederationError, TrustError):
        return None
