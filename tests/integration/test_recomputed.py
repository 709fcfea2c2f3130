"""Members who fuse releases again: an aggregator in somebody else's hands publishes what it did not fuse."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from rooted_rounds import SignedFederation, make_signed_federation

from coldfuse.aggregator import round as rounds
from coldfuse.aggregator.proving import Proven
from coldfuse.api.recomputed import Words
from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.cli.standing_check import standing_check
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.contributor.events import NodeEvent
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import ConflictError, NotAllowedError, SignatureError, UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.registry.recomputed import put_check
from coldfuse.storage import LocalStore
from coldfuse.storage.base import list_keys
from coldfuse.tensors.checkpoint import open_release
from coldfuse.tensors.contents import content_digest
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.check import Check, is_drawn, sign_check, word_key
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.verification.causes import Cause
from coldfuse.verification.remote import recompute_over
from coldfuse.verification.standing import StandingCheck
from coldfuse.verification.store import Request, verify_store

TENSOR = "layer.weight"


def lie(federation: Federation, manifest: ReleaseManifest) -> ReleaseManifest:
    """Change one value of a fused model, and describe what comes out as it is."""
    [file] = open_release(federation.store.url, manifest).files.values()
    start, path = file.entry(TENSOR).start, file.file.name
    parts = list(manifest.files[path].parts)
    offset = 0
    for index, part in enumerate(parts):
        if offset <= start < offset + part.size_bytes:
            data = bytearray(federation.store.get(f"objects/{part.digest}"))
            value = np.frombuffer(data, np.float32, 1, start - offset)
            data[start - offset : start - offset + 4] = (value + 1).tobytes()
            federation.objects.put(sha256(data), bytes(data))
            parts[index] = Part(digest=sha256(data), size_bytes=len(data))
        offset += part.size_bytes
    files = dict(manifest.files) | {path: Blob(parts=tuple(parts))}
    changed = manifest.model_copy(update={"files": files, "checks": {}})
    digest = content_digest(list(open_release(federation.store.url, changed).files.values()))
    return changed.model_copy(update={"model_digest": digest})


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> SignedFederation:
    """An auditable federation whose second release is not what was fused, all of it signed with the right keys."""
    made = make_signed_federation(tmp_path_factory.mktemp("liar"), rounds=1, is_auditable=True)
    honest = rounds.fuse_release

    def fuse(federation: Federation, *args: object, **options: object) -> ReleaseManifest:
        return lie(federation, honest(federation, *args, **options))  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "fuse_release", fuse)
        made.round(2)
    return made


def check(made: SignedFederation, name: str, *, release: int = 1, agrees: bool = True, **changes: object) -> Check:
    manifest = sha256(made.store.get(f"releases/{release:05d}.json"))
    said = Check(
        federation=made.keys.fingerprint, member=name, release=release, manifest=manifest, agrees=agrees,
        difference="" if agrees else "tensor 'x' differs", checked_at_s=time.time(),
    )  # fmt: skip
    return said.model_copy(update=changes)


def test_everything_that_is_signed_is_right_and_fusing_again_names_the_tensor(liar: SignedFederation) -> None:
    request = Request(at_s=time.time(), fingerprint=liar.keys.fingerprint, reads_all=True)
    assert verify_store(liar.store, request).status(strict=True) == 0
    again = verify_store(liar.store, Request(at_s=time.time(), executor=ThreadExecutor(1)))
    assert again.status() == Cause.RECOMPUTE.status
    [finding] = again.findings
    assert finding.where == "release 2"
    assert TENSOR in finding.why
    assert [one.agrees for one in again.recomputed] == [False, True]


def test_fusing_again_writes_nothing(liar: SignedFederation, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(liar.store.url, tmp_path / "copy"))
    before = {key: copy.joinpath(key).stat().st_mtime_ns for key in list_keys(LocalStore(copy), "")}
    verify_store(LocalStore(copy), Request(at_s=time.time(), executor=ThreadExecutor(1)))
    assert {key: copy.joinpath(key).stat().st_mtime_ns for key in list_keys(LocalStore(copy), "")} == before


@pytest.mark.parametrize("far", [False, True], ids=["store", "gateway"])
def test_a_contributor_finds_it_with_nothing_but_an_address_and_says_so_to_all(
    liar: SignedFederation, far: bool
) -> None:
    name = "ben" if far else "ada"
    with serve_gateway(liar.federation) as gateway:
        client = GatewayClient(gateway.address, identity=liar.identities[name])
        with TrustedGateway(client, anchor=liar.keys.fingerprint, identity=liar.identities[name]) as trusted:
            said: list[tuple[int, str]] = []
            standing = StandingCheck(
                gateway=trusted, identity=liar.identities[name], share=1.0, executor=ThreadExecutor(1),
                say=lambda number, message: said.append((number, message)),
                store=None if far else liar.store,
            )  # fmt: skip
            honest, lied = standing.look(1), standing.look(2)
            assert honest is not None
            assert honest.agrees
            assert lied is not None
            assert lied.agrees is False
            assert TENSOR in lied.why
            assert standing.look(2) is None  # it has said so
            words = Words(trusted).on_summary(next(trusted.releases()))
    assert words is not None
    assert name in [who for who, _ in words.differ]
    assert words.num_may in (3, 4)  # a fourth member comes in another test
    assert str(words).startswith("RELEASE 2 IS NOT WHAT IT SAYS")
    assert [number for number, _ in said] == [1, 2]


def test_what_contributors_send_stays_private_unless_the_federation_is_auditable(tmp_path: Path) -> None:
    made = make_signed_federation(tmp_path, rounds=1)
    with serve_gateway(made.federation) as gateway:
        client = GatewayClient(gateway.address, identity=made.identities["ada"])
        with TrustedGateway(client, anchor=made.keys.fingerprint, identity=made.identities["ada"]) as trusted:
            found = recompute_over(trusted, 1, executor=ThreadExecutor(1), now_s=time.time())
            assert found.agrees is None
            assert "private" in found.why
            manifest = made.federation.release(1)
            contribution = manifest.contributions[0].contribution
            with pytest.raises(Exception, match=f"no part {contribution!r}"):
                trusted.read_into(1, contribution, memoryview(bytearray(1)))


def test_a_word_is_a_members_own_and_is_not_taken_back(liar: SignedFederation) -> None:
    view, now_s = liar.federation.trust, time.time()
    assert view is not None

    def put(said: Check, who: Identity) -> bool:
        return put_check(liar.store, sign_check(said, who), view, now_s=now_s)

    cy, ada = liar.identities["cy"], liar.identities["ada"]
    refused: list[Callable[[], bool]] = [
        lambda: put(check(liar, "cy"), ada),
        lambda: put(check(liar, "cy"), Identity("cy", liar.keys.fingerprint, PrivateKey.generate())),
        lambda: put(check(liar, "cy", federation="0" * 64), cy),
        lambda: put(check(liar, "nobody"), Identity("nobody", liar.keys.fingerprint, PrivateKey.generate())),
    ]
    for one in refused:
        with pytest.raises((NotAllowedError, SignatureError)):
            one()
    assert liar.store.head(word_key(1, "cy")) is None
    assert put(check(liar, "cy"), cy)
    assert not put(check(liar, "cy"), cy)
    with pytest.raises(ConflictError, match="not taken back"):
        put(check(liar, "cy", agrees=False), cy)


def test_who_looks_at_a_release_is_drawn_by_a_signature_that_others_cannot_make() -> None:
    key, other = PrivateKey.generate(), PrivateKey.generate()
    ada, forged = Identity("ada", "0" * 64, key), Identity("ada", "0" * 64, other)
    releases = [sha256(bytes([number])) for number in range(200)]
    drawn = [is_drawn(ada, release, share=0.25) for release in releases]
    assert drawn == [is_drawn(ada, release, share=0.25) for release in releases]
    assert 20 < sum(drawn) < 80
    assert drawn != [is_drawn(forged, release, share=0.25) for release in releases]
    assert not any(is_drawn(ada, release, share=0.0) for release in releases)
    assert all(is_drawn(ada, release, share=1.0) for release in releases)


def shorten(admission: Admission) -> Admission:
    """Pretend that a delta is too long, so that less of it is taken."""
    assert admission.measured is not None
    return admission.model_copy(
        update={"measured": admission.measured.model_copy(update={"norm": 1000 * admission.measured.norm})}
    )


def overrate(admission: Admission) -> Admission:
    """Pretend that a contributor has sent a score."""
    return admission.model_copy(update={"score": 1.0})


@pytest.mark.parametrize(("pretend", "word"), [(shorten, "measures a length"), (overrate, "its score is None")])
def test_what_an_aggregator_pretends_to_have_measured_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretend: Callable[[Admission], Admission], word: str
) -> None:
    made, honest = make_signed_federation(tmp_path, rounds=0), Proven.admit

    def admit(proven: Proven, admissions: Iterable[Admission]) -> list[Admission]:
        return [pretend(one) if one.contributor == "ben" else one for one in honest(proven, admissions)]

    with monkeypatch.context() as patch:
        patch.setattr(Proven, "admit", admit)
        made.round(1)
    assert verify_store(made.store, Request(at_s=time.time(), reads_all=True)).status() == 0
    [found] = verify_store(made.store, Request(at_s=time.time(), executor=ThreadExecutor(1))).recomputed
    assert found.agrees is False
    assert "ben" in found.why
    assert word in found.why


def test_what_is_kept_between_rounds_is_compared_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lie in the outer steps' numbers moves no tensor of this release, and every one after it."""
    made, honest = make_signed_federation(tmp_path, rounds=0), rounds.fuse_release

    def fuse(federation: Federation, *args: object, **options: object) -> ReleaseManifest:
        manifest = honest(federation, *args, **options)  # type: ignore[arg-type]
        assert manifest.outer is not None
        [(name, blob)] = manifest.outer.files.items()
        data = bytearray(federation.store.get(f"objects/{blob.parts[-1].digest}"))
        data[-1] ^= 1
        federation.objects.put(sha256(data), bytes(data))
        last = Part(digest=sha256(data), size_bytes=len(data))
        files = {name: Blob(parts=(*blob.parts[:-1], last))}
        return manifest.model_copy(update={"outer": manifest.outer.model_copy(update={"files": files, "checks": {}})})

    with monkeypatch.context() as patch:
        patch.setattr(rounds, "fuse_release", fuse)
        made.round(1)
    [found] = verify_store(made.store, Request(at_s=time.time(), executor=ThreadExecutor(1))).recomputed
    assert found.agrees is False
    assert "keeps between rounds" in found.why


def test_a_release_whose_contributions_are_gone_is_not_called_wrong(liar: SignedFederation, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(liar.store.url, tmp_path / "copy"))
    sent = liar.federation.release(1).contributions[0].contribution
    manifest = liar.federation.objects.get_value(ContributionManifest, sent)
    (copy / "objects" / manifest.delta.parts[0].digest).unlink()
    request = Request(at_s=time.time(), release=1, executor=ThreadExecutor(1))
    report = verify_store(LocalStore(copy), request)
    assert [one.agrees for one in report.recomputed] == [None]
    assert report.status() == Cause.GAP.status


class Heard:
    """Events of a node, until the one that is waited for."""

    def __init__(self, num_checked: int) -> None:
        self.events: list[NodeEvent] = []
        self.done = threading.Event()
        self._num_checked = num_checked

    def __call__(self, event: NodeEvent) -> None:
        self.events.append(event)
        if len(self.events) >= self._num_checked:
            self.done.set()


def test_a_node_looks_at_releases_beside_its_work(liar: SignedFederation) -> None:
    made, heard = liar, Heard(1)
    made.enroll_all("dora")
    options = ContributeOptions(address="", verify_share=1.0)
    with serve_gateway(made.federation) as gateway:
        client = GatewayClient(gateway.address, identity=made.identities["dora"])
        with TrustedGateway(client, anchor=made.keys.fingerprint, identity=made.identities["dora"]) as trusted:
            with standing_check(options, trusted, heard, threading.Event()):
                assert heard.done.wait(60)
            words = Words(trusted).on_summary(next(trusted.releases()))
    [event] = heard.events
    assert (event.phase, event.base_release) == ("checked", 2)
    assert "IS NOT WHAT IT SAYS" in event.message
    assert words is not None
    assert "dora" in dict(words.differ)


def test_a_node_that_could_look_at_nothing_is_told_at_once(tmp_path: Path) -> None:
    made = make_signed_federation(tmp_path, rounds=0)
    options = ContributeOptions(address="", verify_share=0.5)
    with StoreGateway(made.federation) as plain:
        trusted = TrustedGateway(plain, anchor=made.keys.fingerprint, identity=made.identities["ada"])
        with pytest.raises(UserInputError, match="--verify-from"):
            standing_check(options, trusted, Heard(1), threading.Event()).__enter__()
        with pytest.raises(UserInputError, match="no members"):
            standing_check(options, plain, Heard(1), threading.Event()).__enter__()
