"""Channels in the store: where they point, by whom they are signed, and until when.

With a root, a channel has a version that only grows and a time after which nobody believes it. Whoever leads writes it
anew in time, with what else it says by then; and what is damaged, lost or forged it makes of the releases.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from coldfuse.core.federation import CHANNEL_EXPIRES_S, FederationSettings
from coldfuse.core.release import Channel
from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import encode
from coldfuse.errors import (
    CodecError,
    FederationError,
    NotAllowedError,
    ObjectNotFoundError,
    RollbackError,
    SignatureError,
)
from coldfuse.registry.damage import MISSING, name_damage
from coldfuse.registry.journal import Journal
from coldfuse.registry.published import find_manifest, is_ours
from coldfuse.registry.reading import read_again
from coldfuse.registry.releases import find_latest
from coldfuse.registry.rollbacks import last_rollback
from coldfuse.registry.signed import check_sealed, require_no_root, write_signed
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.tensors.rereading import ADVICE
from coldfuse.trust.channel import SIGNERS, SignedChannel, channel_key, read_channel
from coldfuse.trust.keys import Signer
from coldfuse.trust.root import Root
from coldfuse.trust.seen import Memory, with_channel, with_members, with_root
from coldfuse.trust.view import Known, TrustView

log = logging.getLogger(__name__)

_FOLDER = "channels/"


@dataclass(frozen=True)
class Pointer:
    """A channel as it was read."""

    channel: Channel
    etag: str | None
    is_damaged: bool
    """Whether it was damaged, missing or forged, and follows from the releases."""


@dataclass(frozen=True, kw_only=True)
class Pointers:
    """The channels of one federation."""

    store: ObjectStore
    settings: FederationSettings
    trust: TrustView | None
    """Who may sign them; None where nothing is signed."""
    journal: Callable[[int], Journal]
    """Returns the journal of a round."""
    now_s: Callable[[], float] = time.time
    """The clock, in seconds since 1970."""
    memory: Memory = field(default_factory=Memory)
    """The newest versions that were seen: whoever leads signs nothing anew that somebody has put back."""

    def read(self, name: str, *, forgives: bool = False) -> Pointer:
        """Read a channel; what of `latest` is damaged or missing follows from the releases.

        Args:
            name: The channel.
            forgives: Whether a forged one counts as damaged: for who writes it anew.

        Raises:
            FederationError: There is no such channel.
            DamagedObjectError: It is damaged, and nothing says where it pointed.
            TrustError: It is signed by nobody who may, or as something else.
        """
        key, etag = channel_key(name), None
        try:
            return self._read_there(key, name, is_to_sign=forgives)
        except ObjectNotFoundError:
            why = MISSING
        except (SignatureError, RollbackError) as error:
            if not forgives:
                raise
            why, etag = str(error), self.store.get_with_etag(key)[1]
        except CodecError as error:
            why, etag = str(error), self.store.get_with_etag(key)[1]
        found = self._newest_release() if name == "latest" else None
        if found is None and etag is None:
            raise FederationError(f"there is no channel {name!r}; every federation has 'latest'") from None
        if found is None:
            raise name_damage(self.store, key, why, advice=ADVICE)
        log.warning("%s %s is damaged: %s; taken from the releases: %d", self.store.url, key, why, found.release)
        return Pointer(found, etag, is_damaged=True)

    def write(self, name: str, target: Channel, before: Pointer | None, signer: Signer | None) -> Channel:
        """Write a channel, in the place of what was read before.

        Args:
            name: The channel.
            target: Where it shall point.
            before: What was read; None: there is none yet.
            signer: The aggregator's key, or an operator's, where there is a root.

        Raises:
            ConflictError: Somebody else has written it meanwhile.
            NotAllowedError: There is a root, and no key.
        """
        plain = plain_channel(target)
        new, data = (plain, seal(plain)) if self.trust is None else self._sign(name, plain, before, signer)
        is_there = True
        if before is None:
            is_there = self.store.put_if_absent(channel_key(name), data)  # else that of an earlier try stays
        else:
            self.store.compare_and_swap(channel_key(name), data, etag=before.etag)
        if is_there and self.trust is not None and isinstance(new, SignedChannel):
            self._remember(new, self.trust.known())
        return new

    def is_due(self, channel: Channel) -> bool:
        """Tell whether a channel is to be signed anew: half of its time is over, or it says what is old by now."""
        if self.trust is None:
            return False
        if not isinstance(channel, SignedChannel):
            return True
        known = self.trust.known()
        is_old = (channel.root, channel.members) != (known.root.version, known.members.version)
        return is_old or channel.expires_at_s - self.now_s() < self.expires_s / 2

    def names(self) -> Iterator[str]:
        """List the channels that there are."""
        yield from (key.removeprefix(_FOLDER) for key in list_keys(self.store, _FOLDER))

    @property
    def expires_s(self) -> float:
        """Seconds for which a channel is believed once it is signed."""
        return self.settings.channel_expires_s or CHANNEL_EXPIRES_S

    def to_sign(self, name: str, target: Channel, before: Pointer | None, *, ahead_s: float = 0.0) -> SignedChannel:
        """Return a channel as it is to be signed, in the place of what was read before.

        Args:
            name: The channel.
            target: Where it shall point.
            before: What was read; None: there is none yet.
            ahead_s: Seconds by which its version shall be ahead, for what several people have to sign.

        Raises:
            NotAllowedError: There is no root.
        """
        if self.trust is None:
            raise NotAllowedError(f"channel {name}: there is no root, and nobody whose signature would count")
        known, now_s = self._known_to_sign(self.trust), self.now_s()
        seen = self.memory.seen().channels.get(name)
        there = before.channel.version if before and isinstance(before.channel, SignedChannel) else 0
        last = max(there, seen.version if seen else 0)
        return SignedChannel(
            **dict(plain_channel(target)), name=name, version=max(last + 1, int(now_s + ahead_s)),
            expires_at_s=now_s + self.expires_s, federation=known.fingerprint, root=known.root.version,
            members=known.members.version,
        )  # fmt: skip

    def _sign(
        self, name: str, target: Channel, before: Pointer | None, signer: Signer | None
    ) -> tuple[SignedChannel, bytes]:
        if signer is None:
            raise NotAllowedError(f"channel {name}: is signed by an aggregator or an operator, and no key was given")
        self._require_signer(name, signer)
        new = self.to_sign(name, target, before)
        return new, write_signed(encode(new), "channel", [signer])

    def _require_signer(self, name: str, signer: Signer) -> None:
        """Refuse a key by which nobody would believe a channel, before anything is written."""
        if self.trust is None or may_sign(self.trust.known().root, signer):
            return
        if not may_sign(self.trust.refresh().root, signer):  # it may be new
            raise NotAllowedError(
                f"channel {name}: key {signer.public.id[:12]} cannot sign it alone; an aggregator's can, or an "
                "operator's where one is enough"
            )

    def decode(self, data: bytes, name: str) -> Channel:
        """Return a channel from what lies in the store, verified by the newest root.

        Raises:
            CodecError: It is damaged.
            TrustError: It is signed by nobody who may, or as something else.
        """
        what = channel_key(name)
        if self.trust is None:
            require_no_root(data, what=what)
            return unseal(Channel, data, what=what)
        _require_signed(data, what)
        check_sealed(data, what=what)
        try:
            return self._believed(data, name, self.trust.known())
        except (SignatureError, RollbackError):  # keys may have changed since
            return self._believed(data, name, self.trust.refresh())

    def _require_members(self, channel: Channel) -> None:
        """Raise `RollbackError` if the members of when a channel was signed are gone: somebody takes back who is out.

        Who leads may have to sign on: after a thief's lists were taken away, say.
        """
        if self.trust is None or not isinstance(channel, SignedChannel):
            return
        if channel.members > self.trust.known().members.version:
            self.trust.refresh(members=channel.members)

    def _known_to_sign(self, trust: TrustView) -> Known:
        """Return the newest root and members. Raises `RollbackError` if newer ones were seen before."""
        known = trust.known()
        try:
            self._note(known)
        except RollbackError:  # another process of this user's may have seen newer ones
            known = trust.refresh()
            self._note(known)
        return known

    def _note(self, known: Known) -> None:
        self.memory.change(lambda seen: with_members(with_root(seen, known.root), known.members.version))

    def _read_there(self, key: str, name: str, *, is_to_sign: bool) -> Pointer:
        """Read a channel that is not damaged, lost or forged; raises as `decode`."""
        for is_last in (False, True):
            try:
                pointer, etag = read_again(self.store, key, lambda data: self.decode(data, name))
            except RollbackError:  # another thread may have seen a newer one since this one was read
                if is_last:
                    raise
            else:
                break
        if not is_to_sign:
            self._require_members(pointer)
        return Pointer(pointer, etag, is_damaged=False)

    def _believed(self, data: bytes, name: str, known: Known) -> SignedChannel:
        found = read_channel(data, name, root=known.root, federation=known.fingerprint)
        self._remember(found, known)
        return found

    def _remember(self, channel: SignedChannel, known: Known) -> None:
        """Take note of a channel. Raises `RollbackError` if a newer one, or a newer root, was seen before."""
        self.memory.change(lambda seen: with_channel(with_root(seen, known.root), channel))

    def _newest_release(self) -> Channel | None:
        """Return a pointer to the newest release that is the federation's; None if there is none."""

        def find(number: int) -> bytes | None:
            return find_manifest(self.store, self.settings, self.trust, number=number, journal=self.journal)

        return find_latest(
            self.store, find, rollback=last_rollback(self.store, self.trust),
            is_ours=lambda data: is_ours(self.store, self.settings, self.trust, data),
        )  # fmt: skip


def may_sign(root: Root, signer: Signer) -> bool:
    """Tell whether a key can sign channels alone."""
    roles = (root.roles[role] for role in SIGNERS)
    return any(role.threshold == 1 and signer.public.id in role.keys for role in roles)


def plain_channel(channel: Channel) -> Channel:
    """Return where a channel points, and nothing else."""
    return Channel(**{name: getattr(channel, name) for name in Channel.model_fields})


def _require_signed(data: bytes, what: str) -> None:
    """Raise `SignatureError` for a pointer that nobody has signed."""
    try:
        unseal(Channel, data, what=what)
    except CodecError:
        return
    raise SignatureError(f"{what}: is signed by nobody, expected the aggregator; somebody has put it there")
