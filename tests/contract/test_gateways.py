"""What every `Gateway` does: one straight on a store, and one behind gRPC."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from federations import (
    BASE_CONFIG,
    BASE_DIGEST,
    BASE_MODEL,
    FEDERATION,
    admit,
    make_delta,
    make_federation,
    make_manifest,
    open_round,
)
from rooted import TrustedFederation

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.damage import Damage, Damaged
from coldfuse.core.release import FusedContribution
from coldfuse.core.round import Abandoned, Closed, Published
from coldfuse.core.serialization import encode, sha256
from coldfuse.core.signature import Signature
from coldfuse.errors import (
    CodecError,
    ContributionRejectedError,
    DamagedObjectError,
    DigestMismatchError,
    FederationError,
    ObjectNotFoundError,
    RoundClosedError,
    UserInputError,
)
from coldfuse.gateway import ContributionSummary, ContributionVerdict, Decision, Gateway, StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore, MemoryStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.identity import Identity

MIB = 1 << 20
SIZES = [2 * MIB + 1, 1, MIB, 0, 300_000]


@pytest.fixture(params=["direct", "wire", "signed"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def trusted(kind: str, tmp_path: Path) -> TrustedFederation | None:
    """The same federation with a root, where requests and contributions are signed; its name is that of the others."""
    return TrustedFederation(LocalStore(tmp_path / "store"), name=FEDERATION) if kind == "signed" else None


@pytest.fixture
def federation(kind: str, trusted: TrustedFederation | None, tmp_path: Path) -> Federation:
    store = MemoryStore() if kind == "direct" else LocalStore(tmp_path / "store")
    federation = trusted.federation if trusted else make_federation(store)
    open_round(federation)
    return federation


class SigningClient(GatewayClient):
    """Signs what is committed, as a node does."""

    identity: Identity

    def commit(self, manifest: ContributionManifest, signature: Signature | None = None) -> ContributionVerdict:
        signed = self.identity.sign(encode(manifest), "contribution")
        return super().commit(manifest, signature or signed)


@pytest.fixture
def gateway(kind: str, federation: Federation, trusted: TrustedFederation | None) -> Iterator[Gateway]:
    if kind == "direct":
        with StoreGateway(federation) as gateway:
            yield gateway
        return
    with serve_gateway(federation) as server:
        if trusted is None:
            with GatewayClient(server.address, retry_s=5.0) as client:
                yield client
            return
        ada = trusted.enroll("ada")
        with SigningClient(server.address, retry_s=5.0, identity=ada) as client:
            client.identity = ada
            yield client


def test_a_contribution_goes_in_and_gets_its_verdict(gateway: Gateway, federation: Federation):
    delta, seen = make_delta(SIZES), []
    report = gateway.upload(delta.blob, delta.read_range, progress=lambda done, total: seen.append((done, total)))
    manifest = make_manifest(delta.blob)
    receipt = gateway.commit(manifest)
    assert (report.sent_bytes, report.num_sent, report.num_skipped) == (sum(SIZES), 5, 0)
    assert seen[-1] == (sum(SIZES), sum(SIZES))
    assert (receipt.contribution, receipt.decision) == (sha256(encode(manifest)), Decision.PENDING)
    assert federation.objects.get_value(ContributionManifest, receipt.contribution) == manifest
    expected = bytearray(sum(SIZES))
    delta.read_range(memoryview(expected), 0)
    assert federation.objects.open(delta.blob).read(0, sum(SIZES)) == expected
    admit(federation, receipt.contribution)
    assert gateway.commit(manifest).decision is Decision.ADMITTED
    assert gateway.verdict(1, receipt.contribution).reason == "admitted; it is fused when the round closes"


def test_committing_twice_is_success_even_after_the_end(gateway: Gateway, federation: Federation):
    delta = make_delta([10])
    gateway.upload(delta.blob, delta.read_range)
    first = gateway.commit(make_manifest(delta.blob))
    assert gateway.commit(make_manifest(delta.blob)) == first
    journal = admit(federation, first.contribution)
    journal.append(Closed(contributions=(first.contribution,), reason="quorum"))
    journal.append(Published(release=1))
    again = gateway.commit(make_manifest(delta.blob))
    assert (again.decision, again.reason) == (Decision.ADMITTED, "fused into release 1")
    assert len(journal.state().received) == 1


def test_what_the_store_has_damaged_is_asked_for_until_it_was_sent_again(gateway: Gateway, federation: Federation):
    delta = make_delta(SIZES)
    gateway.upload(delta.blob, delta.read_range)
    manifest = make_manifest(delta.blob)
    contribution = gateway.commit(manifest).contribution
    assert not gateway.verdict(1, contribution).send_again
    part, journal = delta.blob.parts[0], federation.journal(1)
    journal.state()
    damage = Damage(contribution=contribution, parts=(part,), is_manifest_damaged=True, reason="a bit flipped")
    journal.append(Damaged(damages=(damage,), found_at_s=0.0))
    for digest in (part.digest, contribution):
        federation.store.delete(f"objects/{digest}")
    asked = gateway.commit(manifest)  # brings the manifest back
    assert asked.decision is Decision.PENDING
    verdict = gateway.verdict(1, contribution)
    assert (verdict.decision, verdict.send_again) == (Decision.PENDING, True)
    assert f"part {part.digest[:12]}, its manifest was damaged in the store" in verdict.reason
    # A server does not say what it holds of what was committed, so all of it may travel again.
    assert gateway.upload(delta.blob, delta.read_range).num_sent >= 1
    assert not gateway.verdict(1, contribution).send_again


def test_a_part_that_was_cut_is_replaced_when_it_is_sent_again(gateway: Gateway, federation: Federation):
    delta = make_delta([MIB])
    key = f"objects/{delta.blob.parts[0].digest}"
    federation.store.put_if_absent(key, b"cut")
    assert gateway.upload(delta.blob, delta.read_range).sent_bytes == MIB
    assert federation.store.head(key).size_bytes == MIB


def test_a_wrong_size_that_somebody_claims_moves_no_sound_part_away(gateway: Gateway, federation: Federation):
    delta = make_delta([MIB])
    gateway.upload(delta.blob, delta.read_range)
    claimed = Blob(parts=(Part(digest=delta.blob.parts[0].digest, size_bytes=5),))
    with pytest.raises(DigestMismatchError):
        gateway.upload(claimed, delta.read_range)
    assert federation.objects.open(delta.blob).read(0, 10)


def test_damage_is_told_as_damage_and_no_byte_of_it_is_handed_out(gateway: Gateway, federation: Federation):
    part = federation.latest().files["model.safetensors"].parts[0]
    data = bytearray(federation.store.get(f"objects/{part.digest}"))
    data[5] ^= 1
    federation.store.delete(f"objects/{part.digest}")
    federation.store.put_if_absent(f"objects/{part.digest}", bytes(data))
    with pytest.raises(DamagedObjectError, match=f"objects/{part.digest}.*is damaged"):
        gateway.read_into(0, part.digest, memoryview(bytearray(10)), 0)


def test_what_is_there_already_is_not_sent_again(gateway: Gateway):
    whole, half = make_delta([100, 200, 300]), make_delta([100, 200])
    gateway.upload(half.blob, half.read_range)
    assert gateway.find_missing([*whole.blob.parts, whole.blob.parts[2]]) == [whole.blob.parts[2]]
    report = gateway.upload(whole.blob, whole.read_range)
    assert (report.sent_bytes, report.num_sent, report.num_skipped) == (300, 1, 2)
    assert gateway.upload(whole.blob, whole.read_range).sent_bytes == 0


def test_wrong_bytes_leave_nothing(gateway: Gateway):
    delta, other = make_delta([100]), make_delta([100], seed=1)
    with pytest.raises(DigestMismatchError, match="has the file changed"):
        gateway.upload(delta.blob, other.read_range)
    assert gateway.find_missing(delta.blob.parts) == list(delta.blob.parts)


def test_an_error_of_the_reader_ends_the_upload(gateway: Gateway):
    delta = make_delta([MIB, 3 * MIB])

    def read(buffer: memoryview, start: int) -> None:
        if start:
            raise OSError("the disk is gone")
        delta.read_range(buffer, start)

    with pytest.raises(OSError, match="the disk is gone"):
        gateway.upload(delta.blob, read)
    assert delta.blob.parts[1] in gateway.find_missing(delta.blob.parts)


@pytest.mark.parametrize(
    ("changes", "kind_of_error"),
    [
        ({"base_digest": "0" * 64}, RoundClosedError),
        ({"round": 9}, RoundClosedError),
        ({"federation": "0" * 64}, ContributionRejectedError),
        ({"delta_digest": "0" * 64}, ContributionRejectedError),
    ],
)
def test_a_contribution_that_does_not_fit_is_refused_and_leaves_nothing(gateway, federation, changes, kind_of_error):
    delta = make_delta([10])
    gateway.upload(delta.blob, delta.read_range)
    with pytest.raises(kind_of_error):
        gateway.commit(make_manifest(delta.blob, **changes))
    assert not federation.journal(1).state().received


def test_a_contribution_whose_parts_are_missing_is_refused(gateway: Gateway):
    delta = make_delta([10, 20, 30])
    with pytest.raises(ContributionRejectedError, match="not all of the 3 parts have arrived"):
        gateway.commit(make_manifest(delta.blob))


def test_a_manifest_beyond_the_bound_is_refused(gateway: Gateway):
    parts = tuple(Part(digest=sha256(str(n).encode()), size_bytes=1) for n in range(25_000))
    with pytest.raises(CodecError, match="at most 2,097,152"):
        gateway.commit(make_manifest(Blob(parts=parts)))


@pytest.mark.parametrize("event", [Closed(contributions=(), reason="x"), Abandoned(reason="x")])
def test_a_contribution_to_a_round_that_closed_is_refused(gateway: Gateway, federation: Federation, event):
    delta = make_delta([10])
    gateway.upload(delta.blob, delta.read_range)
    journal = federation.journal(1)
    journal.state()
    journal.append(event)
    with pytest.raises(RoundClosedError):
        gateway.commit(make_manifest(delta.blob))


def test_many_commits_at_once_are_all_taken(kind: str, gateway: Gateway, federation: Federation):
    delta = make_delta([10])
    gateway.upload(delta.blob, delta.read_range)
    names = [f"node-{number}" if kind != "signed" else "ada" for number in range(64)]
    manifests = [make_manifest(delta.blob, contributor=name, num_steps=step) for step, name in enumerate(names, 1)]
    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(gateway.commit, manifests))
    assert {receipt.contribution for receipt in receipts} == set(federation.journal(1).state().received)


def test_a_contribution_that_never_came_has_no_verdict(gateway: Gateway):
    with pytest.raises(ObjectNotFoundError, match="has received no contribution"):
        gateway.verdict(1, "0" * 64)


def test_the_status_says_where_the_federation_stands(gateway: Gateway):
    delta = make_delta([10])
    gateway.upload(delta.blob, delta.read_range)
    gateway.commit(make_manifest(delta.blob))
    status = gateway.status()
    assert (status.federation, status.name, status.latest.model_digest) == (FEDERATION, "tiny", BASE_DIGEST)
    assert (status.round.number, status.round.is_open, status.round.num_received) == (1, True, 1)
    assert status.round.contributors == (("ada",) if isinstance(gateway, StoreGateway) else ())  # strangers get a count
    assert status.round.waits_for == "no contribution yet, 2 make the quorum; 1 not screened yet"
    assert status.poll_after_s >= 0.5


def test_a_consumer_reads_releases_and_nothing_else(gateway: Gateway):
    delta = make_delta([10])
    gateway.upload(delta.blob, delta.read_range)
    files = gateway.release().files
    for name, data in {"config.json": BASE_CONFIG, "model.safetensors": BASE_MODEL}.items():
        buffer = bytearray(len(data) - 3)
        gateway.read_into(0, files[name].parts[0].digest, memoryview(buffer), 3)
        assert buffer == data[3:]
    with pytest.raises(ObjectNotFoundError, match="only what a release lists can be read"):
        gateway.read_into(0, delta.blob.parts[0].digest, memoryview(bytearray(10)))
    with pytest.raises(UserInputError, match="asked for bytes up to"):
        gateway.read_into(0, files["config.json"].parts[0].digest, memoryview(bytearray(100)))


def test_a_channel_that_makes_no_key_is_the_callers_mistake_and_not_asked_for_again(gateway: Gateway):
    began = time.monotonic()
    for channel in ("../x", "", "a/b", "x" * 300, "a\0"):
        with pytest.raises(UserInputError, match="is no channel's name"):
            gateway.release(channel)
    assert time.monotonic() - began < 4.0


def test_the_history_names_who_contributed(gateway: Gateway, federation: Federation):
    fused = FusedContribution(
        contribution="1" * 64, contributor="ada", delta_digest="2" * 64, num_examples=7, weight=0.5
    )
    changes = {"release": 1, "parent": 0, "round": 1, "contributions": (fused,)}
    federation.publish(federation.release(0).model_copy(update=changes))
    newest, oldest = gateway.releases()
    summary = ContributionSummary(contributor="ada", num_examples=7, weight=0.5, contribution="1" * 64)
    assert (newest.parent, newest.contributions) == (0, (summary,))
    assert newest.name.manifest_digest == sha256(federation.release_bytes(1))
    assert (oldest.parent, oldest.contributions) == (None, ())


def test_releases_are_found_by_number_and_channel(gateway: Gateway, federation: Federation):
    release = federation.release(0)
    for number in range(1, 103):
        federation.publish(release.model_copy(update={"release": number, "parent": number - 1, "round": number}))
    assert gateway.release(5).release == 5
    assert gateway.release().release == 102
    assert [summary.name.number for summary in gateway.releases()] == list(range(102, -1, -1))
    assert [summary.name.number for summary in gateway.releases(before=3)] == [2, 1, 0]
    assert [list(gateway.releases(before=before)) for before in (0, 1000)] == [[], list(gateway.releases())]
    with pytest.raises(FederationError, match="there is no release 103; the latest is 102"):
        gateway.release(103)
    with pytest.raises(FederationError, match="no channel"):
        gateway.release("nightly")


def test_a_release_is_had_as_it_was_written(gateway: Gateway, federation: Federation):
    data = gateway.release_bytes()
    assert sha256(data) == federation.channel("latest").manifest
    assert data == gateway.release_bytes(0) == encode(gateway.release())
    with pytest.raises(FederationError, match="there is no release 7"):
        gateway.release_bytes(7)
