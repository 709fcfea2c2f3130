"""The attacks that TUF names, and their kin: what is forged, and how a consumer refuses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rooted import make_keys
from tuf_scene import DAY_S, LATEST, NUM_HONEST, THIEF, Refusal, Scene

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, encode, sha256
from coldfuse.errors import (
    CodecError,
    ColdfuseError,
    DamagedObjectError,
    DigestMismatchError,
    ExpiredError,
    FederationError,
    RollbackError,
    SignatureError,
    TransportError,
)
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.envelope import read_envelope, sign
from coldfuse.trust.members import Members
from coldfuse.trust.root import Root
from coldfuse.trust.root_changes import with_other_key, with_threshold
from coldfuse.trust.seen import Memory
from coldfuse.trust.view import members_key, root_key


def arbitrary_installation(scene: Scene) -> Refusal:
    """A model of somebody who has no key of the federation."""
    scene.release(by=THIEF)
    return Refusal(LATEST, SignatureError, r"channel latest \(aggregator's\): is signed by .*; expected 1 of")


def arbitrary_manifest(scene: Scene) -> Refusal:
    """Another manifest under the number that the signed channel names."""
    scene.lies.manifests[NUM_HONEST] = scene.manifest(NUM_HONEST)
    return Refusal(
        "releases/00002.json", (SignatureError, DamagedObjectError), "manifest is .*names|it is not what was"
    )


def arbitrary_old_release(scene: Scene) -> Refusal:
    """Another manifest for an older release that somebody asks for by its number."""
    scene.lies.manifests[1] = scene.manifest(1)
    return Refusal(
        "releases/00001.json", (SignatureError, DamagedObjectError),
        "one of the two was exchanged|it is not what was", 1,
    )  # fmt: skip


def unsigned_channel(scene: Scene) -> Refusal:
    """A channel as federations without a root have it."""
    data = encode(
        decode(SignedChannel, read_envelope(scene.channel(by=THIEF), what="c").content("channel", what="c"), what="c")
    )
    scene.lies.signed[LATEST] = data
    return Refusal(LATEST, (CodecError, SignatureError), "Field required|is signed by nobody")


def rollback(scene: Scene) -> Refusal:
    """The channel of a release before, which the aggregator did sign."""
    scene.lies.signed[LATEST] = scene.made.old_channel
    return Refusal(LATEST, RollbackError, r"channel latest: version \d+ is handed out, and \d+ was seen before")


def rollback_of_the_root(scene: Scene) -> Refusal:
    """A root that this consumer has seen is hidden."""
    scene.publish_root()
    scene.fetch()
    scene.lies.signed[root_key(2)] = None
    return Refusal(root_key(2), RollbackError, "root 1: is handed out as the newest, and 2 was seen before")


def freeze(scene: Scene) -> Refusal:
    """Nothing new is handed out, week after week."""
    scene.lies.signed[LATEST] = scene.store.get(LATEST)
    scene.later_s = 8 * DAY_S
    return Refusal(LATEST, ExpiredError, r"channel latest: was to be renewed \d+\.\d hours ago; .* somebody hides what")


def freeze_of_the_root(scene: Scene) -> Refusal:
    """The root is renewed, and that is hidden; the aggregator's key was stolen."""
    scene.lies.signed[LATEST] = scene.channel(by=scene.aggregator, expires_at_s=time.time() + 4000 * DAY_S)
    scene.lies.signed[root_key(2)] = None
    scene.later_s = 400 * DAY_S
    return Refusal(root_key(2), ExpiredError, "root 1 has expired 35 days ago; an operator has to renew it")


def fast_forward(scene: Scene) -> Refusal:
    """A stolen key counts as far as numbers go; once it is replaced, what is true is newer again."""
    far = scene.channel(by=scene.aggregator, version=2**53)
    scene.lies.signed[LATEST] = far
    assert scene.fetch() == NUM_HONEST
    assert Memory(scene.folder).seen().channels["latest"].version == 2**53
    scene.publish_root(replaced_aggregator(scene))
    scene.lies.signed[LATEST] = scene.channel(by=THIEF, root=2)
    assert scene.fetch() == NUM_HONEST  # the new key's, with a version that is far lower
    scene.lies.signed[LATEST] = far
    return Refusal(LATEST, SignatureError, "is signed by .*; expected 1 of")


def replaced_aggregator(scene: Scene) -> Callable[[Root], Root]:
    """Return the change after which the aggregator has another key (the test's second one)."""
    return lambda root: with_other_key(root, scene.aggregator.public.id, THIEF.public, now_s=time.time())


def mix_of_roots(scene: Scene) -> Refusal:
    """A new channel with the root of before."""
    scene.lies.signed[LATEST] = scene.channel(by=scene.aggregator, root=2)
    return Refusal(LATEST, RollbackError, "was signed under root 2, and the newest that is handed out is 1")


def mix_of_members(scene: Scene) -> Refusal:
    """A new channel with the list of members of before: whoever was revoked is a member still."""
    scene.lies.signed[LATEST] = scene.channel(by=scene.aggregator, members=9)
    return Refusal(LATEST, RollbackError, "members 9: was seen before, or is named by what is newer, and is not there")


def mix_of_releases(scene: Scene) -> Refusal:
    """The weights of a release before under the manifest of the newest."""
    old, new = (decode(ReleaseManifest, scene.store.get(f"releases/{n:05d}.json"), what="m") for n in (1, 2))
    name = "model.safetensors"
    was, now = old.files[name].parts[-1], new.files[name].parts[-1]
    assert was.digest != now.digest
    scene.lies.parts[now.digest] = scene.store.get(f"objects/{was.digest}")[: now.size_bytes].ljust(
        now.size_bytes, b"\0"
    )
    forget(scene.out)
    return Refusal(
        f"objects/{now.digest}", (DigestMismatchError, DamagedObjectError), "SHA-256|is not what it was|damaged"
    )


def forget(out: Path) -> None:
    """Let the consumer fetch the weights again, into a folder that is whole otherwise."""
    (out / "model.safetensors").write_bytes(b"lost")


def endless_channel(scene: Scene) -> Refusal:
    scene.lies.signed[LATEST] = b" " * 20_000_000
    return Refusal(LATEST, (CodecError, TransportError), "at most|too long|more than")


def endless_root(scene: Scene) -> Refusal:
    scene.lies.signed[root_key(2)] = b" " * 600_000
    return Refusal(
        root_key(2),
        (CodecError, FederationError),
        "root/2.json: expected at most 512,000 bytes, and there are more; it is not read",
    )


def endless_manifest(scene: Scene) -> Refusal:
    scene.lies.manifests[NUM_HONEST] = b" " * 20_000_000
    true = sha256(scene.store.get(f"releases/{NUM_HONEST:05d}.json"))
    scene.lies.parts[true] = b" " * 20_000_000  # a store has it as an object, too
    return Refusal("releases/00002.json", ColdfuseError, "at most|too long|SHA-256|its manifest is|it is not what was")


def endless_part(scene: Scene) -> Refusal:
    """A part that goes on after its end: no more is read than the manifest says."""
    manifest = decode(ReleaseManifest, scene.store.get("releases/00002.json"), what="m")
    part = manifest.files["model.safetensors"].parts[-1]
    scene.lies.parts[part.digest] = b"\0" * 20_000_000
    forget(scene.out)
    return Refusal(f"objects/{part.digest}", (DigestMismatchError, DamagedObjectError), "SHA-256|damaged")


EXTRANEOUS = (
    "modeling_evil.py", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl", "run.sh", "lib.so",
    "../up.json", "/etc/up.json", "a/../../up.json", ".coldfuse/release.json", ".git/config.json", "a\\up.json", "",
    "a\x1b[2J.json",
)  # fmt: skip


def wrong_tensors(scene: Scene) -> Refusal:
    """A release whose manifest names another model than its files are."""
    scene.release(by=scene.aggregator, model_digest="e" * 64)
    return Refusal(LATEST, DigestMismatchError, "digest")


def wrong_number(scene: Scene) -> Refusal:
    """A channel that points to a release by another's number."""
    data = scene.manifest(NUM_HONEST + 5)
    scene.lies.manifests[NUM_HONEST + 1] = data
    scene.lies.signed[LATEST] = scene.channel(by=scene.aggregator, release=NUM_HONEST + 1, manifest=sha256(data))
    return Refusal(LATEST, SignatureError, "release 3: what is handed out for it is release 7")


def release_of_another_federation(scene: Scene) -> Refusal:
    """A release of another federation that the same aggregator serves."""
    scene.release(by=scene.aggregator, federation="f" * 64)
    return Refusal(LATEST, SignatureError, "release 3: is of federation ffffffffffffffff, expected")


def malicious_mirror(scene: Scene) -> Refusal:
    """A copy that leaves out the pointer."""
    scene.lies.signed[LATEST] = None
    return Refusal(LATEST, (RollbackError, SignatureError), "channel latest: is not handed out, and was there before")


def malicious_statement(scene: Scene) -> Refusal:
    """A copy that says that the release was made by somebody else."""
    key = f"releases/{NUM_HONEST:05d}.sig"
    payload = read_envelope(scene.store.get(key), what="s").content("provenance", what="s")
    scene.lies.signed[key] = sign(payload, "provenance", [THIEF])
    return Refusal(key, SignatureError, "the statement on release 2: is signed by .*; expected 1 of")


def wrong_federation(scene: Scene) -> Refusal:
    """The channel of another federation that the same aggregator serves, with the same key."""
    scene.lies.signed[LATEST] = scene.channel(by=scene.aggregator, federation="f" * 64)
    return Refusal(LATEST, SignatureError, "is signed for federation ffff.*: it was taken over from another federation")


def wrong_root(scene: Scene) -> Refusal:
    """A whole other federation."""
    other = make_keys()
    scene.lies.signed[root_key(1)] = other.signed_root()
    return Refusal(root_key(1), SignatureError, f"root 1 has the fingerprint {other.fingerprint}, expected")


def wrong_channel(scene: Scene) -> Refusal:
    """What is signed as another channel."""
    scene.lies.signed[LATEST] = scene.channel(by=scene.aggregator, name="stable")
    return Refusal(LATEST, SignatureError, "is signed as channel stable, and lies in another's place")


def stolen_aggregator_key(scene: Scene) -> Refusal:
    """A key that was replaced signs no more."""
    scene.publish_root(replaced_aggregator(scene))
    scene.release(by=scene.aggregator)
    return Refusal(LATEST, SignatureError, "is signed by .*; expected 1 of")


def aggregator_key_lets_somebody_in(scene: Scene) -> Refusal:
    """Whoever has the aggregator's key, and can write to the store, enrols nobody."""
    members = Members(version=4, federation=scene.keys.fingerprint)
    scene.lies.signed[members_key(4)] = sign(encode(members), "members", [scene.aggregator])
    return Refusal(members_key(4), SignatureError, r"members 4 \(operator's\): is signed by .*; expected")


def one_operator_of_two(scene: Scene) -> Refusal:
    """One stolen key of the root where two must sign: no other root comes of it."""
    both = scene.root(lambda root: with_threshold(root, "root", 2, now_s=time.time()), by=list(scene.keys.operators))  # type: ignore[arg-type]
    scene.store.put_if_absent(root_key(2), both)
    assert scene.fetch() == NUM_HONEST
    third = scene.keys.root.model_copy(update={"version": 3})
    scene.lies.signed[root_key(3)] = sign(encode(third), "root", [scene.operator])
    return Refusal(root_key(3), SignatureError, r"root 3 \(root's\): is signed by .*; expected 2 of")


def stolen_old_root(scene: Scene) -> Refusal:
    """Both keys of an older root are stolen, and another next root is made of them."""
    scene.publish_root()
    assert scene.fetch() == NUM_HONEST
    other = replaced_aggregator(scene)
    scene.lies.signed[root_key(2)] = scene.root(other, by=list(scene.keys.operators))  # type: ignore[arg-type]
    scene.release(by=THIEF)
    return Refusal(root_key(2), SignatureError, "root 2: is another one than was seen before, though it is signed")


ATTACKS: list[Callable[[Scene], Refusal]] = [
    arbitrary_installation, arbitrary_manifest, arbitrary_old_release, unsigned_channel,
    rollback, rollback_of_the_root, freeze, freeze_of_the_root, fast_forward,
    mix_of_roots, mix_of_members, mix_of_releases,
    endless_channel, endless_root, endless_manifest, endless_part,
    malicious_mirror, malicious_statement,
    wrong_tensors, wrong_number, release_of_another_federation, wrong_federation, wrong_root, wrong_channel,
    stolen_aggregator_key, aggregator_key_lets_somebody_in, one_operator_of_two, stolen_old_root,
]  # fmt: skip
