"""Whatever one thing a gateway hands out otherwise, what is believed is the truth or nothing.

One thing: left out, exchanged for any other that is signed, as it was before, or with one bit of it changed.
"""

from __future__ import annotations

import random
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from federation_keys import NOW_S, TinyTrust

from coldfuse.consumer.belief import Belief
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import canonical_json, decode, encode, sha256
from coldfuse.errors import ColdfuseError
from coldfuse.trust.envelope import Envelope, sign
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.provenance import statement_of
from coldfuse.trust.seen import Memory


@dataclass
class History:
    """What a federation has published, what it looked like before, and what lies under each key."""

    trust: TinyTrust = field(default_factory=TinyTrust)
    older: list[dict[str, bytes]] = field(default_factory=list)
    manifests: dict[int, bytes] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    """Keys that a consumer asks for."""

    def __post_init__(self) -> None:
        for number in range(3):
            self.publish(number)
            self.trust.enroll(f"member-{number}")
            self.trust.operator = PrivateKey.generate()
            self.trust.rotate()
            self.trust.publish_members()
            self.trust.point("stable", release=number, manifest=self.manifests[number])
            self.trust.point(release=number, manifest=self.manifests[number])
            self.older.append(dict(self.trust.stored))

    def publish(self, number: int) -> None:
        manifest = ReleaseManifest(
            federation=self.trust.fingerprint, release=number, parent=number - 1 if number else None, round=number,
            method="mean", model_digest=sha256(b"%d" % number), files={}, created_at_s=NOW_S,
        )  # fmt: skip
        data = self.manifests[number] = encode(manifest)
        statement = statement_of(
            manifest, digest=sha256(data), parent=sha256(self.manifests[number - 1]) if number else None,
            files=sha256(b"files"), terms=None, journal_head=None,
        )  # fmt: skip
        self.trust.stored[f"releases/{number:05d}.sig"] = sign(statement, "provenance", [self.trust.aggregator])

    def believed(self, stored: dict[str, bytes], manifests: dict[int, bytes], folder: FederationFolder) -> object:
        """Return all that a consumer believes, who has seen the truth before."""

        def read(key: str) -> bytes | None:
            self.asked.add(key)
            return stored.get(key)

        belief = Belief(read, fingerprint=self.trust.fingerprint, memory=Memory(folder), clock=lambda: NOW_S)
        channel, known = belief.channel("latest"), belief.known()
        named = belief.require_named(manifests[channel.release], channel)
        older = belief.require_release(manifests[1], 1)
        return (
            channel.release,
            known.root,
            known.members,
            encode(named),
            encode(older),
            belief.channel("stable").release,
        )


@pytest.fixture(scope="module")
def history() -> History:
    return History()


def lies(history: History, rng: random.Random) -> Iterator[tuple[str, bytes | None]]:
    """Yield a key, and what lies there instead; None: nothing."""
    stored = history.trust.stored
    for key in sorted(history.asked & stored.keys()):
        data = stored[key]
        yield key, None
        for other in rng.sample(sorted(stored.values()), 5):
            if other != data:
                yield key, other
        for before in history.older:
            if key in before and before[key] != data:
                yield key, before[key]
        for _ in range(4):
            yield key, flipped(data, rng)
            yield key, with_other_payload(data, rng)


def flipped(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def with_other_payload(data: bytes, rng: random.Random) -> bytes:
    """Return the envelope with a bit of what it signs changed: the JSON around it stays whole."""
    envelope = decode(Envelope, data, what="e")
    payload = b64encode(flipped(b64decode(envelope.payload), rng)).decode()
    return canonical_json(envelope.model_dump(mode="json") | {"payload": payload})


def test_one_lie_is_the_truth_or_refused(history: History, tmp_path: Path) -> None:
    folder, rng, num_refused, number = FederationFolder(tmp_path, history.trust.fingerprint), random.Random(0), 0, 0
    truth = history.believed(history.trust.stored, history.manifests, folder)
    seen = Memory(folder).seen()
    for number, (key, lie) in enumerate(lies(history, rng)):
        stored = dict(history.trust.stored)
        stored.pop(key) if lie is None else stored.update({key: lie})
        try:
            assert history.believed(stored, history.manifests, folder) == truth, (number, key, lie)
        except ColdfuseError:
            num_refused += 1
        assert Memory(folder).seen() == seen, (number, key)
    assert num_refused > 0.9 * number > 90  # a bit that says nothing may be any


def test_one_manifest_that_is_exchanged_is_refused(history: History, tmp_path: Path) -> None:
    folder, rng = FederationFolder(tmp_path, history.trust.fingerprint), random.Random(1)
    for number in (1, 2):
        for lie in [*(flipped(history.manifests[number], rng) for _ in range(20)), history.manifests[0], b"", b"{}"]:
            with pytest.raises(ColdfuseError):
                history.believed(history.trust.stored, history.manifests | {number: lie}, folder)
