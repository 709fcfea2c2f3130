"""What has a name of its own: settings, quarantine, channels, release manifests, the lease, heads and entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from coldfuse.core.federation import FederationSettings, SettingsChange
from coldfuse.core.quarantine import Quarantine, QuarantineChange
from coldfuse.core.release import Channel
from coldfuse.core.round import EVENT
from coldfuse.core.sealed import unseal, unsealed
from coldfuse.core.serialization import decode_any
from coldfuse.core.value import Value
from coldfuse.doctor.findings import Finding
from coldfuse.doctor.inventory import list_rounds
from coldfuse.errors import CodecError, DamagedObjectError, ObjectNotFoundError, StorageError
from coldfuse.registry.chain import Head
from coldfuse.registry.damage import MISSING
from coldfuse.registry.federation import Federation
from coldfuse.registry.history import History
from coldfuse.registry.lease import KEY as LEASE_KEY
from coldfuse.registry.lease import LeaseRecord
from coldfuse.registry.quarantine import QUARANTINE_HISTORY, QUARANTINE_KEY, read_quarantine
from coldfuse.registry.reading import read_again
from coldfuse.registry.releases import list_releases, release_key
from coldfuse.registry.settings import COPY_KEY, SETTINGS_HISTORY, SETTINGS_KEY
from coldfuse.storage.base import list_keys


@dataclass(frozen=True)
class Named:
    """Looks at everything that has a name of its own."""

    federation: Federation

    def findings(self) -> Iterator[Finding]:
        """List what is damaged or missing."""
        yield from self._settings()
        yield from self._quarantine()
        yield from self._channels()
        yield from self._look(
            LEASE_KEY, lambda d: unseal(LeaseRecord, d, what=LEASE_KEY), by="who leads", may_miss=True
        )
        yield from self._releases()
        for number in list_rounds(self.federation.store):
            yield from self._round(number)

    def _settings(self) -> Iterator[Finding]:
        for key, may_miss in ((SETTINGS_KEY, False), (COPY_KEY, True)):
            yield from self._look(key, _reads(FederationSettings, key), by="the federation", may_miss=may_miss)
        change = self.federation.settings.change
        yield from self._history(SETTINGS_HISTORY, end=change.number if change else 1)

    def _quarantine(self) -> Iterator[Finding]:
        """Look at who is shut out; where there is a history, there has been somebody."""
        numbers = [int(key[-10:-5]) for key in list_keys(self.federation.store, f"{QUARANTINE_HISTORY.folder}/")]
        reads = _reads(Quarantine, QUARANTINE_KEY)
        yield from self._look(QUARANTINE_KEY, reads, by="who is shut out", may_miss=not numbers)
        with suppress(StorageError):  # it is damaged, which was said
            change = read_quarantine(self.federation.store).change
            numbers += [change.number - 1] if change else []
        yield from self._history(QUARANTINE_HISTORY, end=max(numbers, default=0) + 1)

    def _history(self, history: History[SettingsChange] | History[QuarantineChange], *, end: int) -> Iterator[Finding]:
        for number in range(1, end):
            key = history.key(number)
            yield from self._look(key, _reads(history.kind, key), by=f"the history of the {history.folder}")

    def _channels(self) -> Iterator[Finding]:
        for key in {"channels/latest", *list_keys(self.federation.store, "channels/")}:
            yield from self._look(key, _reads(Channel, key), by=f"everybody who follows {key.partition('/')[2]!r}")

    def _releases(self) -> Iterator[Finding]:
        for number in range(self._newest() + 1):
            yield from self._look(release_key(number), self._is_release(number), by=f"release {number}")

    def _newest(self) -> int:
        """Return the number of the newest release that is there, or that a journal speaks of."""
        store = self.federation.store
        made = (self.federation.journal(number).state().published for number in list_rounds(store))
        return max([0, *list_releases(store), *(one.release for one in made if one is not None)])

    def _is_release(self, number: int) -> Callable[[bytes], object]:
        def read(data: bytes) -> object:
            try:
                is_right = self.federation.find_release(number) == data
            except DamagedObjectError:
                is_right = False
            if not is_right:
                raise CodecError("it is not what was published")
            return data

        return read

    def _round(self, number: int) -> Iterator[Finding]:
        folder, by = f"rounds/{number:05d}/", f"round {number}"
        entries = list(list_keys(self.federation.store, f"{folder}journal/"))
        led = sorted(int(key.rpartition("/")[2][:8]) for key in entries if not key.endswith("-received"))
        if led:
            yield from self._look(f"{folder}head", _reads(Head, f"{folder}head"), by=by)
        for key in entries:
            yield from self._look(key, lambda d, key=key: _entry(d, key), by=by)  # type: ignore[misc]
        for seq in sorted(set(range(led[-1])) - set(led)) if led else ():
            yield Finding(key=f"{folder}journal/{seq:08d}-*", why=MISSING, needed_by=(by,))

    def _look(self, key: str, read: Callable[[bytes], object], *, by: str, may_miss: bool = False) -> Iterator[Finding]:
        try:
            read_again(self.federation.store, key, read)
        except ObjectNotFoundError:
            if not may_miss:
                yield Finding(key=key, why=MISSING, needed_by=(by,))
        except CodecError as error:
            yield Finding(key=key, why=str(error).removeprefix(f"{key}: "), needed_by=(by,))


def _reads(kind: type[Value], key: str) -> Callable[[bytes], object]:
    return lambda data: unseal(kind, data, what=key)


def _entry(data: bytes, key: str) -> object:
    return unsealed(data, lambda: decode_any(EVENT, data, what=key), what=key)
