"""A consumer that follows a federation, and somebody who lies to it from now on."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from lies import Lies, LyingStore, lying_gateways

from coldfuse.consumer import fetch, read_fetched
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.errors import (
    ColdfuseError,
)
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.storage.base import MAX_POINTER_BYTES
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.envelope import read_envelope, sign
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.root import Root
from coldfuse.trust.view import root_key

LATEST = "channels/latest"
DAY_S = 86400.0
MAX_READ_BYTES = 4 * MAX_POINTER_BYTES
"""Bytes of a lie that are read from a store, however long it is and however often it is looked at."""
THIEF = PrivateKey.generate()
NUM_HONEST = 2
"""Number of the release that the consumer has."""


@dataclass
class Made:
    """A federation with three releases, as it is copied for each attack."""

    path: Path
    keys: FounderKeys
    consumer: Identity
    old_channel: bytes
    """Channel `latest` as it was a release before."""


@dataclass
class Scene:
    """A consumer that has fetched the latest release, and somebody who lies from now on."""

    made: Made
    place: str
    path: Path
    stack: ExitStack
    lies: Lies = field(default_factory=Lies)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    """What forged versions of the channel are higher by."""
    later_s: float = 0.0
    """Seconds by which the consumer's clock is later."""

    def __post_init__(self) -> None:
        shutil.copytree(self.made.path / "store", self.path / "store")
        self.store = LocalStore(self.path / "store")
        self.out, self.keys = self.path / "out", self.made.keys
        self.folder = FederationFolder(self.path / "home", self.keys.fingerprint)
        self._address: str | None = None
        self.fetch()

    def fetch(self, which: int | str = "latest") -> int:
        """Fetch, as a consumer that has just been started."""
        gateway = StoreGateway(open_federation(LyingStore(self.store, self.lies))) if self.is_store else self._client()
        with TrustedGateway(
            gateway, anchor=self.keys.fingerprint, folder=self.folder, clock=lambda: time.time() + self.later_s
        ) as trusted:
            return fetch(trusted, self.out, which=which, allow_older=True).manifest.release

    def status(self) -> int:
        with TrustedGateway(self._client(), anchor=self.keys.fingerprint, folder=self.folder) as trusted:
            return trusted.status().latest.number

    @property
    def is_store(self) -> bool:
        return self.place == "store"

    def _client(self) -> GatewayClient:
        if self._address is None:
            with lying_gateways(self.lies):
                self._address = self.stack.enter_context(serve_gateway(open_federation(self.store))).address
        return GatewayClient(self._address, identity=self.made.consumer, retry_s=3.0)

    def look(self) -> dict[str, str]:
        """Return what lies in the consumer's folder."""
        passing = (".coldfuse/lock", ".coldfuse/incoming", ".coldfuse/pieces")
        names = {file.relative_to(self.out).as_posix(): file for file in self.out.rglob("*") if file.is_file()}
        kept = {name: file for name, file in names.items() if not name.startswith(passing)}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in kept.items()}

    def release_now(self) -> ReleaseManifest:
        """Return the manifest of the release that lies in the consumer's folder."""
        found = read_fetched(self.out)
        assert found is not None
        return found

    # What somebody forges

    @property
    def aggregator(self) -> PrivateKey:
        return self.keys.aggregator  # type: ignore[return-value]

    @property
    def operator(self) -> PrivateKey:
        return self.keys.operators[0]  # type: ignore[return-value]

    def channel(self, *, by: PrivateKey, **different: object) -> bytes:
        """Return the channel with some things different, signed."""
        payload = read_envelope(self.store.get(LATEST), what="c").content("channel", what="c")
        now = decode(SignedChannel, payload, what="c")
        changed = {
            "version": now.version + next(self.numbers),
            "expires_at_s": now.expires_at_s + 30 * DAY_S,
        } | different
        return sign(encode(now.model_copy(update=changed)), "channel", [by])

    def manifest(self, number: int = NUM_HONEST + 1, **different: object) -> bytes:
        """Return the manifest of a release that the federation never published, on what it has."""
        now = decode(ReleaseManifest, self.store.get(f"releases/{NUM_HONEST:05d}.json"), what="m")
        changed = {"release": number, "parent": number - 1, "method": "evil"} | different
        return encode(now.model_copy(update=changed))

    def release(self, *, by: PrivateKey, number: int = NUM_HONEST + 1, **different: object) -> None:
        """Hand out such a release, and a channel that points to it."""
        data = self.manifest(number, **different)
        self.lies.manifests[number] = data
        self.lies.signed[LATEST] = self.channel(by=by, release=number, manifest=sha256(data))

    def root(self, *change: Callable[[Root], Root], by: list[PrivateKey]) -> bytes:
        """Return the root after the newest, with changes."""
        root = self.keys.root
        for each in change:
            root = each(root)
        return sign(encode(root.model_copy(update={"version": 2})), "root", by)

    def publish_root(self, *change: Callable[[Root], Root]) -> None:
        """Publish the next root, as operators do."""
        self.store.put_if_absent(root_key(2), self.root(*change, by=[*self.keys.operators, THIEF]))  # type: ignore[list-item]


@dataclass(frozen=True)
class Refusal:
    """How an attack is to end."""

    lie: str
    """What was told."""
    error: type[ColdfuseError] | tuple[type[ColdfuseError], ...]
    sentence: str
    which: int | str = "latest"
