"""Histories of roots and pointers, as python-tuf has them and as coldfuse has them, and a client of each."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from federation_keys import NOW_S, make_root
from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from coldfuse.consumer.belief import Belief
from coldfuse.core.serialization import canonical_json, encode, sha256
from coldfuse.errors import CodecError, TrustError
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.envelope import payload_type, sign
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import Members
from coldfuse.trust.seen import Memory
from coldfuse.trust.view import members_key, root_key

KEYS = [PrivateKey.from_seed(bytes([number]) * 32) for number in range(16)]
OPERATOR = PrivateKey.from_seed(b"o" * 32)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A version of the root."""

    version: int
    keys: tuple[int, ...]
    threshold: int
    signers: tuple[int, ...]
    spoilt: tuple[int, ...] = ()
    """Signers whose signature does not fit."""
    is_doubled: bool = False
    """Whether the first signature is there twice."""
    days: int = 30
    """Days until it expires."""
    channel_keys: tuple[int, ...] = (7,)
    """Who signs channels and timestamps."""


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """A channel, or a timestamp."""

    version: int
    signers: tuple[int, ...] = (7,)
    days: int = 7
    content: int = 0


@dataclass
class History:
    """What is published, in order: roots, and what is looked at after each of them."""

    steps: list[Step]
    looks: list[list[Pointing]] = field(default_factory=list)


def signatures(data: bytes, step: Step | Pointing) -> list[tuple[str, bytes]]:
    found = []
    for number in step.signers:
        own = KEYS[number].sign(data)
        if number in getattr(step, "spoilt", ()):
            own = bytes([own[0] ^ 1]) + own[1:]
        found.append((KEYS[number].public.id, own))
    return found + (found[:1] if getattr(step, "is_doubled", False) else [])


def tuf_bytes(signed: dict[str, object], step: Step | Pointing) -> bytes:
    data = encode_canonical(signed).encode()
    listed = [{"keyid": keyid, "sig": sig.hex()} for keyid, sig in signatures(data, step)]
    return json.dumps({"signed": signed, "signatures": listed}).encode()


def expiry(days: int) -> str:
    return (datetime.fromtimestamp(NOW_S, UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def tuf_root(step: Step) -> bytes:
    used = {*step.keys, *step.channel_keys}
    keys = {KEYS[number].public.id: KEYS[number].public.verifier().to_dict() for number in used}
    root = {"keyids": [KEYS[number].public.id for number in step.keys], "threshold": step.threshold}
    others = {"keyids": [KEYS[number].public.id for number in step.channel_keys], "threshold": 1}
    roles = {"root": root, "timestamp": others, "snapshot": others, "targets": others}
    return tuf_bytes({
        "_type": "root", "spec_version": "1.0.31", "version": step.version, "expires": expiry(step.days),
        "consistent_snapshot": True, "keys": keys, "roles": roles,
    }, step)  # fmt: skip


def tuf_timestamp(pointing: Pointing) -> bytes:
    return tuf_bytes({
        "_type": "timestamp", "spec_version": "1.0.31", "version": pointing.version, "expires": expiry(pointing.days),
        "meta": {"snapshot.json": {"version": 1, "length": pointing.content + 1}},
    }, pointing)  # fmt: skip


class TufClient:
    """python-tuf's client, with what it keeps between two refreshes."""

    def __init__(self, first: bytes) -> None:
        self.root, self.timestamp, self.num_roots = first, None, 1

    def refresh(self, roots: Sequence[bytes], timestamp: bytes) -> bool:
        """Follow the roots and look at a timestamp; True if that is what is believed now."""
        try:
            trusted = TrustedMetadataSet(self.root, EnvelopeType.METADATA)
            trusted.reference_time = datetime.fromtimestamp(NOW_S, UTC)
            for data in roots[self.num_roots :]:
                trusted.update_root(data)
                self.root, self.num_roots = data, self.num_roots + 1
            if self.timestamp is not None:
                try:
                    trusted.update_timestamp(self.timestamp)
                except RepositoryError:
                    pass  # as its Updater does with what it has on disk
            trusted.update_timestamp(timestamp)
        except RepositoryError:
            return False
        self.timestamp = timestamp
        return True


def own_root(step: Step) -> bytes:
    keys = {"root": step.keys, "aggregator": step.channel_keys}
    named = {role: [KEYS[number] for number in dict.fromkeys(numbers)] for role, numbers in keys.items()}
    root = make_root(
        named | {"operator": [OPERATOR], "model": [OPERATOR]}, version=step.version,
        expires_at_s=NOW_S + step.days * 86400.0,
    )  # fmt: skip
    document = root.model_dump(mode="json")
    document["roles"]["root"] = {"keys": [KEYS[number].public.id for number in step.keys], "threshold": step.threshold}
    return own_envelope(canonical_json(document), "root", step)


def own_envelope(payload: bytes, kind: str, step: Step | Pointing) -> bytes:
    whole = b" ".join([
        b"DSSEv1", str(len(payload_type(kind))).encode(), payload_type(kind).encode(), str(len(payload)).encode(),  # type: ignore[arg-type]
        payload,
    ])  # fmt: skip
    listed = [{"keyid": keyid, "sig": b64encode(sig).decode()} for keyid, sig in signatures(whole, step)]
    document = {"payload": b64encode(payload).decode(), "payloadType": payload_type(kind), "signatures": listed}  # type: ignore[arg-type]
    return json.dumps(document).encode()


class OwnClient:
    """coldfuse's consumer, with what it keeps between two refreshes."""

    def __init__(self, first: bytes) -> None:
        self.fingerprint = fingerprint(first)
        self.memory = Memory()
        members = Members(version=1, federation=self.fingerprint)
        self.members = sign(encode(members), "members", [OPERATOR])

    def channel(self, pointing: Pointing) -> bytes:
        channel = SignedChannel(
            release=pointing.content, round=0, manifest="0" * 64, model_digest="0" * 64, name="latest",
            version=pointing.version, expires_at_s=NOW_S + pointing.days * 86400.0, federation=self.fingerprint, root=1,
            members=1,
        )  # fmt: skip
        return own_envelope(encode(channel), "channel", pointing)

    def refresh(self, roots: Sequence[bytes], pointing: Pointing) -> bool:
        stored = {root_key(number): data for number, data in enumerate(roots, 1)}
        stored |= {members_key(1): self.members, "channels/latest": self.channel(pointing)}
        belief = Belief(stored.get, fingerprint=self.fingerprint, memory=self.memory, clock=lambda: NOW_S)
        try:
            return belief.channel("latest").release == pointing.content
        except (TrustError, CodecError):
            return False


def fingerprint(first: bytes) -> str:
    return sha256(b64decode(json.loads(first)["payload"]))


def outcomes(history: History) -> tuple[list[bool], list[bool]]:
    """Return what each client believes at every look."""
    tuf_roots, own_roots = [tuf_root(step) for step in history.steps], [own_root(step) for step in history.steps]
    tuf, own = TufClient(tuf_roots[0]), OwnClient(own_roots[0])
    theirs, ours = [], []
    for number, looks in enumerate(history.looks, 1):
        for pointing in looks:
            theirs.append(tuf.refresh(tuf_roots[:number], tuf_timestamp(pointing)))
            ours.append(own.refresh(own_roots[:number], pointing))
    return theirs, ours
