"""The attacks that TUF names (1.0.34, 1.5.2), each on a consumer that follows a federation.

By a store, a gateway and an aggregator that lie. Each lie is seen to have been told, and leaves the folder as it was.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lies import Lies, LyingStore, lying_gateways
from rooted import RootedFederation, make_keys
from tiny_rounds import lead, make_changes

from coldfuse.consumer import fetch, read_fetched
from coldfuse.consumer.folder import missing_code
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.blob import Blob, Part
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
from coldfuse.gateway import ReleaseName, StoreGateway
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
from coldfuse.trust.members import Members
from coldfuse.trust.root import Root
from coldfuse.trust.root_changes import with_other_key, with_threshold
from coldfuse.trust.seen import Memory
from coldfuse.trust.view import members_key, root_key

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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("made")
    thresholds = {"operators": [PrivateKey.generate(), PrivateKey.generate()]}
    rooted = RootedFederation(path, keys=make_keys(**thresholds), rules={"quorum": 1, "deadline_s": 3600.0})
    ada, consumer = rooted.enroll("ada"), rooted.enroll("carl", "consumer")
    old = b""
    for number in range(1, NUM_HONEST + 1):
        old = rooted.store.get(LATEST)
        lead(rooted.opened(), number)
        rooted.send("ada", make_changes(rooted.model, number), ada)
        lead(rooted.opened(), number)
    return Made(path, rooted.keys, consumer, old)


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
    return lambda root: with_other_key(root, "aggregator", scene.aggregator.public.id, THIEF.public, now_s=time.time())


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
        "root/2.json: 600,000 bytes, expected at most 512,000; it is not read",
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
    other = lambda root: with_other_key(root, "aggregator", scene.aggregator.public.id, THIEF.public, now_s=1.0)  # noqa: E731
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


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("place", ["store", "gateway"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_is_refused_and_changes_nothing(
    attack: Callable[[Scene], Refusal], place: str, made: Made, tmp_path: Path, stack: ExitStack
) -> None:
    scene = Scene(made, place, tmp_path, stack)
    refusal = attack(scene)
    before, scene.lies.told_bytes = scene.look(), 0
    scene.lies.told.clear()
    with pytest.raises(refusal.error, match=refusal.sentence):
        scene.fetch(refusal.which)
    assert scene.lies.told[refusal.lie]
    assert not scene.is_store or scene.lies.told_bytes < MAX_READ_BYTES
    assert scene.look() == before


@pytest.mark.parametrize("place", ["store", "gateway"])
def test_a_file_that_no_model_is_made_of_is_refused_whoever_signs(
    made: Made, tmp_path: Path, stack: ExitStack, place: str
) -> None:
    """Extraneous dependencies: the aggregator itself signs them."""
    scene = Scene(made, place, tmp_path, stack)
    now, before = scene.release_now(), scene.look()
    for name in EXTRANEOUS:
        scene.lies.told.clear()
        scene.release(by=scene.aggregator, files=now.files | {name: now.files["config.json"]})
        with pytest.raises(CodecError, match=r"is not a path inside a model folder|is neither tensors nor conf"):
            scene.fetch()
        assert scene.lies.told[LATEST]
        assert scene.lies.told["releases/00003.json"]
    assert scene.look() == before


def test_a_release_that_an_operator_goes_back_to_is_a_new_version(made: Made, tmp_path: Path, stack: ExitStack) -> None:
    """What is no attack is taken: else none of the refusals above would say anything."""
    scene = Scene(made, "gateway", tmp_path, stack)
    older = sha256(scene.store.get("releases/00001.json"))
    scene.lies.signed[LATEST] = scene.channel(by=scene.operator, release=1, manifest=older)
    assert scene.fetch() == 1


def test_code_that_a_configuration_names_is_not_brought(made: Made, tmp_path: Path, stack: ExitStack) -> None:
    scene = Scene(made, "gateway", tmp_path, stack)
    config = b'{"model_type": "tiny", "auto_map": {"AutoModel": "modeling_evil.Evil"}}'
    now = decode(ReleaseManifest, scene.store.get(f"releases/{NUM_HONEST:05d}.json"), what="m")
    part = Part(digest=sha256(config), size_bytes=len(config))
    scene.lies.parts[part.digest] = config
    scene.release(by=scene.aggregator, files=now.files | {"config.json": Blob(parts=(part,))})
    assert scene.fetch() == NUM_HONEST + 1
    files = {file.name for file in scene.out.iterdir()}
    assert not [name for name in files if name.endswith((".py", ".bin", ".pkl"))]
    [left_out] = missing_code(scene.out, scene.release_now())
    assert "modeling_evil" in str(left_out)


@pytest.mark.parametrize("number", [NUM_HONEST, NUM_HONEST + 7])
def test_a_status_that_names_another_release_is_refused(
    made: Made, tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("coldfuse.consumer.trusted._PAUSE_S", 0.0)
    scene = Scene(made, "gateway", tmp_path, stack)
    assert scene.status() == NUM_HONEST
    scene.lies.latest = ReleaseName(number=number, model_digest="e" * 64, manifest_digest="e" * 64)
    with pytest.raises(SignatureError, match=rf"says that release {number} .* and the signed channel names 2"):
        scene.status()
    assert scene.lies.told["status"]


def test_a_status_that_is_a_moment_old_is_set_right(made: Made, tmp_path: Path, stack: ExitStack) -> None:
    scene = Scene(made, "gateway", tmp_path, stack)
    scene.lies.latest = ReleaseName(number=1, model_digest="e" * 64, manifest_digest="e" * 64)
    assert scene.status() == NUM_HONEST
    assert scene.lies.told["status"]
