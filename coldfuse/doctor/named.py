"""What has a name of its own: settings, quarantine, channels, release manifests, the lease, heads and entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from coldfuse.core.federation import SettingsChange
from coldfuse.core.quarantine import Quarantine, QuarantineChange
from coldfuse.core.release import Channel
from coldfuse.core.round import EVENT
from coldfuse.core.sealed import unseal, unsealed
from coldfuse.core.serialization import decode, decode_any
from coldfuse.core.value import Value
from coldfuse.doctor.findings import Finding
from coldfuse.doctor.signed import Signed
from coldfuse.errors import (
    ChainError,
    CodecError,
    DamagedObjectError,
    FederationError,
    ObjectNotFoundError,
    StorageError,
    TrustError,
)
from coldfuse.registry.chain import Codec
from coldfuse.registry.damage import MISSING
from coldfuse.registry.federation import Federation
from coldfuse.registry.history import History
from coldfuse.registry.inventory import list_rounds, state_of
from coldfuse.registry.lease import KEY as LEASE_KEY
from coldfuse.registry.lease import LeaseRecord
from coldfuse.registry.quarantine import QUARANTINE_HISTORY, QUARANTINE_KEY, read_quarantine
from coldfuse.registry.reading import read_again
from coldfuse.registry.releases import list_releases, release_key
from coldfuse.registry.rollbacks import list_rollbacks, rollback_key
from coldfuse.registry.settings import COPY_KEY, SETTINGS_HISTORY, SETTINGS_KEY, decode_settings
from coldfuse.registry.signed import check_sealed, is_signed
from coldfuse.storage.base import list_keys
from coldfuse.trust.channel import SignedChannel, channel_key
from coldfuse.trust.envelope import read_envelope


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
        yield from Signed(self.federation).findings()
        for number in list_rounds(self.federation.store):
            yield from self._round(number)

    def _settings(self) -> Iterator[Finding]:
        store, trust = self.federation.store, self.federation.trust
        for key, may_miss in ((SETTINGS_KEY, False), (COPY_KEY, True)):
            yield from self._look(
                key, lambda data: decode_settings(store, data, view=trust), by="the federation", may_miss=may_miss
            )
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
        pointers = self.federation.pointers
        for name in sorted({"latest", *pointers.names()}):
            reads = partial(pointers.decode, name=name)
            yield from self._look(channel_key(name), reads, by=f"everybody who follows {name!r}")
        for number in list_rollbacks(self.federation.store):  # of older ones the keys may have been replaced since
            key = rollback_key(number)
            yield from self._look(key, partial(_is_step_back, number=number, key=key), by="the history of steps back")

    def _releases(self) -> Iterator[Finding]:
        for number in range(self._newest() + 1):
            yield from self._look(release_key(number), self._is_release(number), by=f"release {number}")

    def _newest(self) -> int:
        """Return the number of the newest release that is there, or that a journal speaks of."""
        store = self.federation.store
        made = (state_of(self.federation, number).published for number in list_rounds(store))
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
        journal = self.federation.journal(number)
        entries = list(list_keys(self.federation.store, f"{folder}journal/"))
        led = sorted(int(key.rpartition("/")[2][:8]) for key in entries if not key.endswith("-received"))
        if led:
            key = f"{folder}head"
            yield from self._look(key, partial(journal.codec.read_head, what=key), by=by)
        for key in entries:
            yield from self._look(key, _entry(journal.codec, key), by=by)
        for seq in sorted(set(range(led[-1])) - set(led)) if led else ():
            yield Finding(key=f"{folder}journal/{seq:08d}-*", why=MISSING, needed_by=(by,))
        try:
            journal.state()
        except ChainError as error:
            yield Finding(key=f"{folder}journal/", why=str(error), needed_by=(by,))
        except TrustError:
            pass  # the entry was named above

    def _look(self, key: str, read: Callable[[bytes], object], *, by: str, may_miss: bool = False) -> Iterator[Finding]:
        try:
            read_again(self.federation.store, key, read)
        except ObjectNotFoundError:
            if not may_miss:
                yield Finding(key=key, why=MISSING, needed_by=(by,))
        except (CodecError, TrustError, FederationError) as error:
            yield Finding(key=key, why=str(error).removeprefix(f"{key}: "), needed_by=(by,))


def _is_step_back(data: bytes, *, number: int, key: str) -> object:
    if is_signed(data, what=key):
        check_sealed(data, what=key)
        channel: Channel = decode(SignedChannel, read_envelope(data, what=key).content("channel", what=key), what=key)
    else:
        channel = unseal(Channel, data, what=key)
    if channel.rollback is None or channel.rollback.number != number:
        raise CodecError("it holds another step back, or none")
    return channel


def _reads(kind: type[Value], key: str) -> Callable[[bytes], object]:
    return lambda data: unseal(kind, data, what=key)


def _entry(codec: Codec, key: str) -> Callable[[bytes], object]:
    """Return what reads an entry: a leader's in its place, or what a gateway has received."""
    name = key.rpartition("/")[2]
    if name.endswith("-received"):
        return lambda data: unsealed(data, lambda: decode_any(EVENT, data, what=key), what=key)
    return lambda data: codec.read_entry(data, seq=int(name[:8]), what=key)
