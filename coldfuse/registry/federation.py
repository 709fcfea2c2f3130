"""A federation in a store: its settings, releases, channels and rounds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from coldfuse.core.federation import FederationSettings, SettingsChange, Terms
from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode
from coldfuse.errors import (
    CodecError,
    DamagedObjectError,
    FederationError,
    ObjectNotFoundError,
    RollbackError,
)
from coldfuse.registry.chain import Chain
from coldfuse.registry.damage import MISSING, name_damage
from coldfuse.registry.journal import Journal
from coldfuse.registry.objects import Objects
from coldfuse.registry.pointers import Pointers, plain_channel
from coldfuse.registry.published import require_next, write_manifest
from coldfuse.registry.releases import channel_to, find_release, release_key
from coldfuse.registry.settings import list_changes, read_settings
from coldfuse.registry.trust import require_aggregator, view_of
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.rereading import ADVICE
from coldfuse.trust.founding import AggregatorSigner
from coldfuse.trust.seen import Memory, memory_in, with_root, with_settings
from coldfuse.trust.view import TrustView

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Federation:
    """One federation, opened. Holds no state of its own: everything is read from the store."""

    store: ObjectStore
    settings: FederationSettings
    """Settings as they were when it was opened; an operator may have changed them since, see `reopened`."""
    trust: TrustView | None = None
    """Who may sign what; None where the federation has no root."""
    signer: AggregatorSigner | None = None
    """Keys of an aggregator; None for who only reads, and where there is no root."""
    now_s: Callable[[], float] = time.time
    """The clock, in seconds since 1970."""
    memory: Memory = field(default_factory=Memory, compare=False, repr=False)
    """The newest versions that were seen."""

    def __post_init__(self) -> None:
        """Verify what has a root, whoever forgets to ask for it."""
        if self.trust is None and self.settings.root is not None:
            object.__setattr__(self, "trust", view_of(self.store, self.settings))

    def reopened(self) -> Self:
        """Read the settings again, and return the federation as it is now.

        Raises:
            RollbackError: They are older than those that were known, which operators have signed since.
        """
        return self._having(read_settings(self.store, view=self.trust)[0])

    def _having(self, settings: FederationSettings) -> Self:
        """Return the federation with settings that were read just now, or newer ones."""
        try:
            self._note(settings)
        except RollbackError:  # another process of this user's may have seen newer ones since these were read
            if self.trust is not None:
                self.trust.refresh_root()
            settings = read_settings(self.store, view=self.trust)[0]
            self._note(settings)
        return replace(self, settings=settings)

    def _note(self, settings: FederationSettings) -> None:
        """Take note of settings that were verified. Raises `RollbackError` if newer ones were seen before."""
        if self.trust is None:
            return
        root = self.trust.known().root
        try:
            self.memory.change(lambda seen: with_settings(with_root(seen, root), settings.number))
        except RollbackError as error:
            raise RollbackError(f"{self.store.url}: {error}") from error

    def require_signer(self) -> None:
        """Make sure that these keys may lead rounds.

        Raises:
            NotAllowedError: There are none, or others than the newest root names.
        """
        if self.trust is not None:
            require_aggregator(self.trust, self.signer)

    def under(self, terms: Terms | None) -> Self:
        """Return the federation as a round on these terms has it; None, of an older version's round: as it is."""
        return replace(self, settings=self.settings.under(terms))

    def changes(self) -> Iterator[SettingsChange]:
        """List the changes of the settings, newest first; what is not asked for is not read."""
        return list_changes(self.store)

    @property
    def objects(self) -> Objects:
        """The immutable objects."""
        return Objects(self.store)

    def journal(self, round_number: int) -> Journal:
        """Return the journal of a round, whether it was opened or not; nothing is read yet."""
        if self.trust is None or not self.settings.is_signed_round(round_number):
            return Journal(self.store, round_number)
        codec = Chain(self.trust, round_number, self.signer.aggregator if self.signer else None)
        before = round_number - 1
        has_link = before > 0 and self.settings.is_signed_round(before)
        return Journal(
            self.store, round_number, codec=codec,
            before=lambda: self.journal(before).newest_link() if has_link else None,
        )  # fmt: skip

    def release(self, number: int) -> ReleaseManifest:
        """Read a release's manifest by its number.

        Raises:
            FederationError: There is no such release; the message names the latest.
            DamagedObjectError: Its manifest is damaged, and nothing says what it was.
        """
        return decode(ReleaseManifest, self.release_bytes(number), what=release_key(number))

    def release_bytes(self, number: int) -> bytes:
        """Read a release's manifest as it was written, for which alone its digest holds; raises as `release`."""
        data = self.find_release(number)
        if data is None:
            newest = (latest := self.channel("latest")).newest
            if number <= newest:
                raise name_damage(self.store, release_key(number), MISSING, advice=ADVICE)
            what = "the latest" if newest == latest.release else "the newest"
            raise FederationError(f"there is no release {number}; {what} is {newest}")
        return data

    def find_release(self, number: int) -> bytes | None:
        """Read a release's manifest as it was written; None if there is none.

        Raises:
            DamagedObjectError: It is damaged, and nothing says what it was.
        """
        return find_release(self.store, number, release_zero=self.settings.release_zero, journal=self.journal)

    def find_manifest(self, number: int, digest: str) -> ReleaseManifest | None:
        """Read a release's manifest by number, if it is there and has this digest."""
        try:
            data = self.store.get(release_key(number), length=MAX_MANIFEST_BYTES + 1)
            return decode(ReleaseManifest, data, what="", digest=digest)
        except (ObjectNotFoundError, CodecError):
            return None

    def channel(self, name: str) -> Channel:
        """Read where a channel points; what of `latest` is damaged or missing follows from the releases.

        Args:
            name: The channel; what users type goes through `check_channel` before.

        Raises:
            FederationError: There is no such channel.
            DamagedObjectError: It is damaged, and nothing says where it pointed.
        """
        return self.pointers.read(name).channel

    @property
    def pointers(self) -> Pointers:
        """The channels as they are written."""
        return Pointers(
            store=self.store, settings=self.settings, trust=self.trust, journal=self.journal, now_s=self.now_s,
            memory=self.memory,
        )  # fmt: skip

    def mended_latest(self) -> Channel:
        """Read where `latest` points, as the leader: a pointer that is damaged or will soon expire is written anew.

        Raises:
            ConflictError: Another aggregator has done it.
            DamagedObjectError: As `channel`.
            NotAllowedError: This aggregator may not sign it (any more).
        """
        return plain_channel(self._renewed("latest"))

    def renew_channels(self) -> None:
        """Write the channels anew, as the leader, that will soon expire; raises as `mended_latest`.

        One that nobody can read is left as it is, with a word: an operator has to point it anew.
        """
        for name in self.pointers.names() if self.trust is not None else ():
            try:
                self._renewed(name)
            except (DamagedObjectError, FederationError) as error:
                log.error("%s", error)

    def _renewed(self, name: str) -> Channel:
        there = self.pointers.read(name, forgives=True)
        if not there.is_damaged and not self.pointers.is_due(there.channel):
            return there.channel
        self.require_signer()
        return self.pointers.write(name, there.channel, there, self.signer.aggregator if self.signer else None)

    def latest(self) -> ReleaseManifest:
        """Read the latest release's manifest, checked against the pointer."""
        return self.release_of("latest")

    def release_of(self, channel: str) -> ReleaseManifest:
        """Read the manifest of the release that a channel points to.

        Raises:
            FederationError: There is no such channel.
            DamagedObjectError: The manifest is not the one that the pointer names, and that is nowhere.
        """
        return self.release_at(self.channel(channel))

    def release_at(self, pointer: Channel) -> ReleaseManifest:
        """Read the manifest of the release that a pointer names; raises as `release_of`."""
        found = self.find_manifest(pointer.release, pointer.manifest)
        if found is not None:
            return found
        log.warning("%s %s is not what a channel points to", self.store.url, release_key(pointer.release))
        return self.objects.get_value(ReleaseManifest, pointer.manifest)

    def publish(self, manifest: ReleaseManifest) -> None:
        """Make this the latest release; publishing the same again is success. Its signatures lie there already.

        Args:
            manifest: The release, whose files and contributions lie in the store already.

        Raises:
            ConflictError: Another release has this number, or the latest release is not the parent of this one.
        """
        signer = self.signer.aggregator if self.signer else None
        if manifest.parent is None:  # release 0: there is no pointer to compare with
            write_manifest(self.store, self.settings, self.trust, manifest)
            self.pointers.write("latest", channel_to(manifest), None, signer)
            return
        there = self.pointers.read("latest")
        current = plain_channel(there.channel)
        pointer = channel_to(manifest).model_copy(update={"rollback": current.rollback})
        if current != pointer:
            require_next(manifest, current)
        write_manifest(self.store, self.settings, self.trust, manifest)
        if current != pointer or there.is_damaged:  # else an earlier try got this far
            self.pointers.write("latest", pointer, there, signer)

    def current_round(self, *, at_least: int = 1) -> int:
        """Return the number of the round that is open or to be opened next.

        It follows the round that made the latest release, what a step back has ended, and the abandoned rounds after.

        Args:
            at_least: A number known from before: the search begins there.
        """
        number = max(self.channel("latest").last_round + 1, at_least)
        if not self.journal(number).is_abandoned():
            return number
        step = 1  # ever longer ones, and then half as long: of thousand abandoned rounds twenty are looked at
        while self.journal(number + step).is_abandoned():
            number, step = number + step, 2 * step
        end = number + step
        while end - number > 1:
            middle = (number + end) // 2
            number, end = (middle, end) if self.journal(middle).is_abandoned() else (number, middle)
        return end


def open_federation(
    store: ObjectStore,
    *,
    signer: AggregatorSigner | None = None,
    fingerprint: str | None = None,
    home: Path | None = None,
) -> Federation:
    """Open the federation that a store holds.

    Args:
        store: The store.
        signer: Keys of an aggregator, for who leads rounds.
        fingerprint: What the federation is known by; None to believe the store.
        home: The user's own folder, where it is kept what was seen of a federation that is known there; None to
            forget it with the process.

    Raises:
        FederationError: The store holds none, or one of a newer layout, or settings that make no sense.
        TrustError: It is another federation, or not signed as it has to be.
        NotAllowedError: The signer's key is none of the federation's aggregators.
    """
    settings, _ = read_settings(store, fingerprint=fingerprint)
    memory = memory_in(home, settings.root) if home is not None and settings.root is not None else Memory()
    federation = Federation(store, settings, signer=signer, memory=memory)._having(settings)
    if signer is not None:
        federation.require_signer()
    return federation
