"""Readers of what is signed: as it comes, and as what somebody has signed who may sign, and writes nonsense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from federation_keys import NOW_S, TinyTrust

from coldfuse.consumer.anchors import find_anchor
from coldfuse.consumer.belief import Belief
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.gate_rules import SuiteCounts
from coldfuse.core.names import Identity as Names
from coldfuse.core.round import Closed
from coldfuse.core.sealed import seal
from coldfuse.core.serialization import encode, sha256
from coldfuse.registry.chain import Link
from coldfuse.trust.channel import channel_key, read_channel
from coldfuse.trust.envelope import Kind, read_envelope, sign
from coldfuse.trust.home import FederationFolder, check_fingerprint
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import Signer
from coldfuse.trust.members import keys_folder, read_statements
from coldfuse.trust.root import first_root, next_root
from coldfuse.trust.score import Score, read_score, sign_score
from coldfuse.trust.seen import Memory, with_channel, with_root
from coldfuse.trust.tokens import Token
from coldfuse.trust.view import TrustView, members_key, root_key
from fuzz.running import Reader


def signed_readers(root: Path) -> dict[str, Reader]:
    """Return the readers; the folder is theirs."""
    root.mkdir()
    trust = TinyTrust()
    ada, eva = trust.enroll("ada"), trust.enroll("eva", "evaluator")
    trust.point()
    readers = (
        envelope_readers(trust, ada) | score_readers(trust, eva) | belief_readers(trust) | home_readers(trust, root)
    )
    token = Token.make(
        federation=trust.fingerprint, who=Names.of("ada"), role="contributor", address="host:1", join_by_s=NOW_S
    ).text  # fmt: skip
    return readers | {
        "invitation": Reader(lambda data: Token.parse(data.decode(errors="surrogateescape")), (token.encode(),)),
        "fingerprint": Reader(
            lambda data: check_fingerprint(data.decode(errors="surrogateescape")), (trust.fingerprint.encode(),)
        ),
    }


def envelope_readers(trust: TinyTrust, ada: Identity) -> dict[str, Reader]:
    """Readers of envelopes, and of what they hold."""
    first, members = trust.stored[root_key(1)], trust.stored[members_key(trust.version)]
    channel = trust.stored[channel_key("latest")]
    folder = keys_folder("ada", trust.members["ada"].invite)
    statement = trust.stored[f"{folder}0.json"]
    second = encode(trust.root.model_copy(update={"version": 2}))
    invite = trust.invites["ada"]

    def statements(data: bytes) -> object:
        return read_statements(
            [data], member="ada", invite=invite.public, federation=trust.fingerprint
        )  # fmt: skip

    return {
        "envelope": Reader(lambda data: read_envelope(data, what="e"), (first, channel, statement)),
        "root": Reader(lambda data: first_root(data, None), (first,)),
        "root of its signer": signing("root", [trust.operator], lambda data: first_root(data, None), first),
        "next root": signing(
            "root", [trust.operator], lambda data: next_root(trust.root, data), sign(second, "root", [trust.operator])
        ),
        "members of an operator": signing(
            "members", [trust.operator],
            lambda data: view(trust, {members_key(trust.version): data}).refresh(), members,
        ),
        "channel": Reader(lambda data: channel_of(trust, data), (channel,)),
        "channel of an aggregator": signing(
            "channel", [trust.aggregator], lambda data: channel_of(trust, data), channel
        ),
        "a member's key": Reader(statements, (statement,)),
        "a member's key by the invitation": signing("member-key", [invite, ada.signer], statements, statement),
    }  # fmt: skip


def score_readers(trust: TinyTrust, eva: Identity) -> dict[str, Reader]:
    """Readers of what evaluators say of candidates."""
    counts = (SuiteCounts(suite="mood", evaluator="eva", num_examples=9, only_before=1, only_after=2),)
    score = sign_score(
        Score(
            federation=trust.fingerprint, member="eva", round=1, manifest="0" * 64, base_digest="1" * 64, counts=counts,
            scored_at_s=NOW_S,
        ),
        eva,
    )  # fmt: skip

    def score_of(data: bytes) -> object:
        return read_score(view(trust, {}), data, now_s=NOW_S)

    return {
        "score": Reader(score_of, (score,)),
        "score of an evaluator": signing("score", [eva.signer], score_of, score),
    }


def belief_readers(trust: TinyTrust) -> dict[str, Reader]:
    """Readers of what a gateway hands out of a federation's history and rules."""
    link = Link(
        seq=1, entry=Closed(contributions=(), reason="x"), federation=trust.fingerprint, round=1, before=None
    )  # fmt: skip
    rules = FederationSettings(
        federation=trust.fingerprint, root=trust.fingerprint, name="tiny", rules=RoundRules(), method="mean",
        created_at_s=1.0, base="base", release_zero=sha256(b"zero"),
    )  # fmt: skip
    entry, settings = (
        sign(encode(link), "journal", [trust.aggregator]),
        sign(encode(rules), "federation", [trust.operator]),
    )

    def read_entry(data: bytes) -> object:
        return belief(trust, {}).require_entry(data, 1)

    def read_settings(data: bytes) -> object:
        return belief(trust, {"federation.json": data}).settings()

    return {
        "signed verdict": Reader(read_entry, (entry,)),
        "signed verdict of an aggregator": signing("journal", [trust.aggregator], read_entry, entry),
        "signed rules": Reader(read_settings, (settings,)),
        "signed rules of an operator": signing("federation", [trust.operator], read_settings, settings),
    }


def home_readers(trust: TinyTrust, root: Path) -> dict[str, Reader]:
    """Readers of a user's own folder, which a disk may have damaged."""
    folder = FederationFolder(root, trust.fingerprint)
    first = trust.stored[root_key(1)]
    folder.pin_root(first)
    memory = Memory(folder)
    seen = memory.change(lambda seen: with_channel(with_root(seen, trust.root), trust.point()))

    def kept(name: str, read: Callable[[], object]) -> Callable[[bytes], object]:
        def read_file(data: bytes) -> object:
            path = folder.path / name
            before = path.read_bytes() if path.exists() else None
            path.write_bytes(data)
            try:
                return read()
            finally:
                path.unlink() if before is None else path.write_bytes(before)

        return read_file

    def anchor() -> object:
        return find_anchor(trust.stored.get, "host:1", home=root)

    return {
        "seen": Reader(kept("seen.json", memory.seen), (seal(seen),), is_slow=True),
        "kept root": Reader(kept("newest.json", memory.newest_root), (first,), is_slow=True),
        "pinned root": Reader(kept("root.json", anchor), (first,), is_slow=True),
    }


def signing(kind: Kind, signers: list[Signer], read: Callable[[bytes], object], envelope: bytes) -> Reader:
    """Return a reader of payloads: whatever it is, it is signed as it should be."""
    payload = read_envelope(envelope, what="e").content(kind, what="e")
    return Reader(lambda data: read(sign(data, kind, signers)), (payload,), is_slow=True)


def channel_of(trust: TinyTrust, data: bytes) -> object:
    return read_channel(data, "latest", root=trust.root, federation=trust.fingerprint)


def view(trust: TinyTrust, other: Mapping[str, bytes]) -> TrustView:
    return TrustView((trust.stored | other).get, fingerprint=trust.fingerprint)


def belief(trust: TinyTrust, other: Mapping[str, bytes]) -> Belief:
    stored = trust.stored | other
    return Belief(stored.get, fingerprint=trust.fingerprint, memory=Memory(), clock=lambda: NOW_S)
