"""A federation in a store: its settings, releases, channels and rounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from coldfuse.core.federation import FederationSettings, SettingsChange, Terms
from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.errors import CodecError, ConflictError, FederationError, ObjectNotFoundError
from coldfuse.registry.journal import Journal
from coldfuse.registry.objects import Objects
from coldfuse.registry.settings import SETTINGS_KEY, list_changes, read_settings
from coldfuse.storage.base import ObjectStore


@dataclass(frozen=True)
class Federation:
    """One federation, opened. Holds no state of its own: everything is read from the store."""

    store: ObjectStore
    settings: FederationSettings
    """Settings as they were when it was opened; an operator may have changed them since, see `reopened`."""

    def reopened(self) -> Self:
        """Read the settings again, and return the federation as it is now."""
        return replace(self, settings=read_settings(self.store)[0])

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
        return Journal(self.store, round_number)

    def release(self, number: int) -> ReleaseManifest:
        """Read a release's manifest by its number.

        Raises:
            FederationError: There is no such release; the message names the latest.
        """
        return decode(ReleaseManifest, self.release_bytes(number), what=_release_key(number))

    def release_bytes(self, number: int) -> bytes:
        """Read a release's manifest as it was written: its digest holds for exactly these bytes."""
        try:
            return self.store.get(_release_key(number))
        except ObjectNotFoundError:
            latest = self.channel("latest").release
            raise FederationError(f"there is no release {number}; the latest is {latest}") from None

    def find_manifest(self, number: int, digest: str) -> ReleaseManifest | None:
        """Read a release's manifest by number, if it is there and has this digest."""
        try:
            return decode(ReleaseManifest, self.store.get(_release_key(number)), what="", digest=digest)
        except (ObjectNotFoundError, CodecError):
            return None

    def channel(self, name: str) -> Channel:
        """Read where a channel points.

        Args:
            name: The channel; what users type goes through `check_channel` before.

        Raises:
            FederationError: There is no such channel.
        """
        key = f"channels/{name}"
        try:
            return decode(Channel, self.store.get(key), what=key)
        except ObjectNotFoundError:
            raise FederationError(f"there is no channel {name!r}; every federation has 'latest'") from None

    def latest(self) -> ReleaseManifest:
        """Read the latest release's manifest, checked against the pointer."""
        return self.release_of("latest")

    def release_of(self, channel: str) -> ReleaseManifest:
        """Read the manifest of the release that a channel points to.

        Raises:
            FederationError: There is no such channel.
            DigestMismatchError: The manifest is not the one that the pointer names.
        """
        pointer = self.channel(channel)
        key = _release_key(pointer.release)
        return decode(ReleaseManifest, self.store.get(key), what=key, digest=pointer.manifest)

    def publish(self, manifest: ReleaseManifest) -> None:
        """Make this the latest release; publishing the same again is success.

        Args:
            manifest: The release, whose files and contributions lie in the store already.

        Raises:
            ConflictError: Another release has this number, or the latest release is not the parent of this one.
        """
        data = encode(manifest)
        key = _release_key(manifest.release)
        if not self.store.put_if_absent(key, data) and self.store.get(key) != data:
            raise ConflictError(f"release {manifest.release} was published by another aggregator")
        pointer = Channel(
            release=manifest.release, round=manifest.round, manifest=sha256(data), model_digest=manifest.model_digest
        )
        if manifest.parent is None:  # release 0: there is no pointer to compare with
            self.store.put_if_absent("channels/latest", encode(pointer))
            return
        current, etag = self.store.get_with_etag("channels/latest")
        if current == encode(pointer):  # an earlier try got this far
            return
        latest = decode(Channel, current, what="channels/latest").release
        if latest != manifest.parent:
            raise ConflictError(f"release {manifest.release} continues {manifest.parent}, but {latest} is the latest")
        self.store.compare_and_swap("channels/latest", encode(pointer), etag=etag)

    def current_round(self, *, at_least: int = 1) -> int:
        """Return the number of the round that is open or to be opened next.

        It follows the round that made the latest release, and the abandoned rounds after that one.

        Args:
            at_least: A number known from before: the search begins there.
        """
        number = max(self.channel("latest").round + 1, at_least)
        while (head := self.journal(number).head()) is not None and head.entry.event == "abandoned":
            number += 1
        return number


def create(store: ObjectStore, settings: FederationSettings, release_zero: ReleaseManifest) -> Federation:
    """Create a federation; `federation.json` comes last, as the switch.

    Args:
        store: A store without a federation.
        settings: What never changes.
        release_zero: The base, whose files lie in the store already.

    Raises:
        FederationError: The store holds a federation, or another process creates one.
    """
    federation = Federation(store, settings)
    if store.head(SETTINGS_KEY) is not None:
        raise FederationError(f"{store.url} holds a federation already; choose another folder or prefix")
    try:
        federation.publish(release_zero)
        store.compare_and_swap(SETTINGS_KEY, encode(settings), etag=None)
    except ConflictError as error:
        raise FederationError(
            f"{store.url}: another process creates a federation here, or one died while it did; choose another folder "
            "or prefix, or empty this one"
        ) from error
    return federation


def open_federation(store: ObjectStore) -> Federation:
    """Open the federation that a store holds.

    Raises:
        FederationError: The store holds none, or one of a newer layout, or settings that make no sense.
    """
    return Federation(store, read_settings(store)[0])


def _release_key(number: int) -> str:
    return f"releases/{number:05d}.json"
