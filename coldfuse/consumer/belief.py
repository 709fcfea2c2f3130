"""What a node or consumer believes of a federation: what its root's keys have signed, and nothing that is older.

Everything comes through one function that reads what lies under a key, from whoever hands it out. The rules are those
of TUF's client (1.0.34, section 5), on a federation's own few pointers: the chain of roots from the fingerprint, then
a channel, which names the least versions of root and members, then the release that it names by its digest.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from coldfuse.core.federation import FederationSettings
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import LeaderEvent
from coldfuse.core.serialization import decode, sha256
from coldfuse.errors import ColdfuseError, FederationError, RollbackError, SignatureError
from coldfuse.registry.chain import read_link
from coldfuse.trust.channel import SignedChannel, channel_key, read_channel, require_current
from coldfuse.trust.envelope import verified
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.provenance import read_statement, require_about, statement_key
from coldfuse.trust.reading import ReadSigned, bounded
from coldfuse.trust.root import Root
from coldfuse.trust.seen import Memory, with_channel, with_members, with_settings
from coldfuse.trust.view import SKEW_S, Known, TrustView

log = logging.getLogger(__name__)

FRESH_S = 60.0
"""Seconds for which a channel that was verified counts for what does not ask for the newest."""


class Belief:
    """What is believed of one federation. Threads may share it."""

    def __init__(
        self, read: ReadSigned, *, fingerprint: str, memory: Memory, clock: Callable[[], float] = time.time
    ) -> None:
        """Take by what the federation is known; nothing is read yet.

        Args:
            read: Reads what lies under a key; nobody need trust it.
            fingerprint: The federation's.
            memory: What was seen before.
            clock: Returns the seconds since 1970.
        """
        self.fingerprint = fingerprint
        self._read = bounded(read)
        self._memory = memory
        self._clock = clock
        self._lock = threading.RLock()
        self._view = self._new_view()
        self._channels: dict[str, tuple[float, SignedChannel]] = {}

    def root(self) -> Root:
        """Return the newest root.

        Raises:
            SignatureError: What is handed out is not signed as it has to be.
            RollbackError: A newer one was seen before.
            ExpiredError: It has expired.
        """
        return self._newest_root(self._clock())

    def known(self) -> Known:
        """Return root and members, as the channel `latest` requires them; raises as `channel`."""
        self.channel("latest")
        return self._view.known()

    def channel(self, name: str, *, max_age_s: float = 0.0) -> SignedChannel:
        """Return where a channel points.

        Args:
            name: The channel's name.
            max_age_s: Seconds for which what was verified before counts.

        Raises:
            FederationError: There is no such channel.
            SignatureError: It is not signed as it has to be.
            RollbackError: Something that is as new as what was seen before, or as it has to be, is not handed out.
            ExpiredError: Nobody has renewed it, or the root.
        """
        now_s = self._clock()  # one for all that is read: nothing expires in between
        with self._lock:
            read_s, held = self._channels.get(name, (float("-inf"), None))
            if held is not None and 0 <= now_s - read_s < max_age_s:
                require_current(held, now_s=now_s)
                return held
            found = self._newest_channel(name, now_s)
            self._channels[name] = now_s, found
            return found

    def require_release(self, data: bytes, number: int) -> ReleaseManifest:
        """Return a release by its number, once its manifest is one that the federation has signed.

        Only today's keys count: whoever has stolen one that was replaced can make any older release with it.

        Args:
            data: The manifest's bytes, as they were handed out.
            number: The number that was asked for.

        Raises:
            SignatureError: It is signed by nobody who may, or is another release or another federation's.
        """
        latest = self.channel("latest", max_age_s=FRESH_S)
        if number == latest.release:
            return self.require_named(data, latest)
        what = f"release {number}"
        root = self.root()
        envelope = self._read(statement_key(number))
        if envelope is None:
            return self._require_before_root(data, number)
        statement = read_statement(root.verified(envelope, "provenance", "aggregator", what=what), what=what)
        manifest = decode(ReleaseManifest, data, what=what)
        require_about(statement, manifest, digest=sha256(data), what=what)
        return self._require_own(manifest, number)

    def require_named(self, data: bytes, channel: SignedChannel) -> ReleaseManifest:
        """Return the release that a channel names, once its manifest is that; raises as `require_release`."""
        what = f"release {channel.release}"
        if sha256(data) != channel.manifest:
            raise SignatureError(
                f"{what}: its manifest is {sha256(data)[:12]}, and channel {channel.name}, which is signed, names "
                f"{channel.manifest[:12]}; whoever hands it out has exchanged or altered it"
            )
        return self._require_own(decode(ReleaseManifest, data, what=what), channel.release)

    def require_entry(self, data: bytes, round_number: int) -> LeaderEvent:
        """Return an entry of a round's journal, once an aggregator has signed it, of today or before.

        Raises:
            SignatureError: Nobody has who may, or it is of another round or federation.
            CodecError: It is no entry.
        """
        what = f"the verdict of round {round_number}"
        link = read_link(verified(data, "journal", self._aggregators(), what=what), what=what)
        if (link.federation, link.round) != (self.fingerprint, round_number):
            raise SignatureError(
                f"{what}: is an entry of round {link.round} of federation {link.federation[:16]}, put in its place"
            )
        return link.entry

    def require_statement(self, data: bytes, number: int) -> None:
        """Raise `SignatureError` unless an aggregator, of today or before, has signed what a release was made from."""
        what = f"the statement on release {number}"
        statement = read_statement(verified(data, "provenance", self._aggregators(), what=what), what=what)
        if statement.parameters.release != number:
            raise SignatureError(f"{what}: is about release {statement.parameters.release}")

    def _aggregators(self) -> list[PublicKey]:
        """Return all keys that aggregators have, or had."""
        with self._lock:
            self.root()
            return self._view.all_keys("aggregator")

    def settings(self) -> FederationSettings:
        """Return the federation's rules, which its operators sign, never older than seen; raises as `root`."""
        with self._lock:
            try:
                return self._newest_settings()
            except RollbackError:  # another process of this user's may have seen newer ones since these were read
                return self._newest_settings()

    def _newest_settings(self) -> FederationSettings:
        root, what = self.root(), "the federation's rules"
        data = self._read("federation.json")
        if data is None:
            raise SignatureError(f"{what}: are not handed out, expected them signed by an operator")
        found = decode(FederationSettings, root.verified(data, "federation", "operator", what=what), what=what)
        if found.root != self.fingerprint:
            raise SignatureError(f"{what}: are another federation's")
        self._memory.change(lambda seen: with_settings(seen, found.number))
        return found

    def _require_own(self, manifest: ReleaseManifest, number: int) -> ReleaseManifest:
        if manifest.release != number:
            raise SignatureError(f"release {number}: what is handed out for it is release {manifest.release}")
        own, found = self.fingerprint, manifest.federation
        if found != own and found != self.settings().federation:  # one that was adopted keeps its older name
            raise SignatureError(f"release {number}: is of federation {found[:16]}, expected {own[:16]}")
        return manifest

    def _require_before_root(self, data: bytes, number: int) -> ReleaseManifest:
        """Return a release of before the federation had a root, which nobody has signed."""
        if self.settings().is_signed_release(number):
            raise SignatureError(f"release {number}: no signature is handed out with it, expected the aggregator's")
        log.warning("release %d is older than the federation's root: nobody has signed it", number)
        return self._require_own(decode(ReleaseManifest, data, what=f"release {number}"), number)

    def _newest_channel(self, name: str, now_s: float) -> SignedChannel:
        root = self._newest_root(now_s)
        data = self._read(channel_key(name))
        if data is None:
            raise self._no_channel(name)
        try:
            found = read_channel(data, name, root=root, federation=self.fingerprint)
        except (RollbackError, SignatureError):  # the root may be new since it was looked for
            if (newer := self._newest_root(now_s)).version == root.version:
                raise
            found = read_channel(data, name, root=newer, federation=self.fingerprint)
        require_current(found, now_s=now_s)
        members = self._view.refresh(members=max(found.members, self._memory.seen().members)).members
        self._memory.change(lambda seen: with_channel(with_members(seen, members.version), found))
        return found

    def _no_channel(self, name: str) -> ColdfuseError:
        if name in self._memory.seen().channels or name == "latest":
            return RollbackError(f"channel {name}: is not handed out, and was there before; somebody hides it")
        return FederationError(f"there is no channel {name!r}; every federation has 'latest'")

    def _newest_root(self, now_s: float) -> Root:
        with self._lock:
            root, data = self._view.refresh_root()
            if root.version < self._memory.seen().root:  # another process has seen a newer one meanwhile
                self._view = self._new_view()
                root, data = self._view.refresh_root()
            self._memory.keep_root(root, data)
            root.require_valid(now_s=now_s - SKEW_S)
            return root

    def _new_view(self) -> TrustView:
        return TrustView(self._read, fingerprint=self.fingerprint, root=self._memory.newest_root())
