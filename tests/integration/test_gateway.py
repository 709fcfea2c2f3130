"""A real gateway on a port that the system picks, on a folder and in memory."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from federations import (
    BASE_DIGEST,
    FEDERATION,
    make_delta,
    make_federation,
    make_manifest,
    open_round,
)

from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.round import Abandoned, Admitted, Closed, Published
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import (
    CodecError,
    ContributionRejectedError,
    DigestMismatchError,
    ObjectNotFoundError,
    RoundClosedError,
)
from coldfuse.gateway import Decision
from coldfuse.storage import LocalStore, MemoryStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.pb import gateway_pb2_grpc
from coldfuse.transport.server import GatewaySettings, serve_gateway

MIB = 1 << 20
SIZES = [2 * MIB + 1, 1, MIB, 0, 300_000]


@pytest.fixture(params=["folder", "memory"])
def federation(request, tmp_path):
    federation = make_federation(LocalStore(tmp_path / "store") if request.param == "folder" else MemoryStore())
    open_round(federation)
    return federation


@pytest.fixture
def gateway(federation):
    with serve_gateway(federation) as gateway:
        yield gateway


@pytest.fixture
def client(gateway):
    with GatewayClient(gateway.address, retry_s=5.0) as client:
        yield client


@pytest.fixture
def stub(gateway):
    with grpc.insecure_channel(gateway.address) as channel:
        yield gateway_pb2_grpc.GatewayStub(channel)


def test_a_contribution_goes_in_and_gets_its_verdict(client, federation):
    delta, seen = make_delta(SIZES), []
    report = client.upload(delta.blob, delta.read_range, progress=lambda done, total: seen.append((done, total)))
    manifest = make_manifest(delta.blob)
    receipt = client.commit(manifest)
    assert (report.sent_bytes, report.num_sent, report.num_skipped) == (sum(SIZES), 5, 0)
    assert seen[-1] == (sum(SIZES), sum(SIZES))
    assert (receipt.contribution, receipt.decision) == (sha256(encode(manifest)), Decision.PENDING)
    assert federation.objects.get_value(ContributionManifest, receipt.contribution) == manifest
    stored = federation.objects.open(delta.blob).read(0, sum(SIZES))
    expected = bytearray(sum(SIZES))
    delta.read_range(memoryview(expected), 0)
    assert stored == expected
    _admit(federation, receipt.contribution)
    assert client.commit(manifest).decision is Decision.ADMITTED
    assert client.verdict(1, receipt.contribution).reason == "admitted; it is fused when the round closes"


def test_committing_twice_is_success_even_after_the_end(client, federation):
    delta = make_delta([10])
    client.upload(delta.blob, delta.read_range)
    first = client.commit(make_manifest(delta.blob))
    assert client.commit(make_manifest(delta.blob)) == first
    journal = _admit(federation, first.contribution)
    journal.append(Closed(contributions=(first.contribution,), reason="quorum"))
    journal.append(Published(release=1))
    again = client.commit(make_manifest(delta.blob))
    assert (again.decision, again.reason) == (Decision.ADMITTED, "fused into release 1")
    assert len(journal.state().received) == 1


def test_what_is_there_already_is_not_sent_again(client):
    whole, half = make_delta([100, 200, 300]), make_delta([100, 200])
    client.upload(half.blob, half.read_range)
    assert client.find_missing(whole.blob.parts) == [whole.blob.parts[2]]
    report = client.upload(whole.blob, whole.read_range)
    assert (report.sent_bytes, report.num_sent, report.num_skipped) == (300, 1, 2)
    assert client.upload(whole.blob, whole.read_range).sent_bytes == 0


def test_a_part_that_arrived_meanwhile_costs_no_byte(stub, client):
    delta = make_delta([100])
    client.upload(delta.blob, delta.read_range)
    assert stub.UploadPart(_messages(delta, [100])).received_bytes == 0


def test_wrong_bytes_leave_nothing(client):
    delta, other = make_delta([100]), make_delta([100], seed=1)
    with pytest.raises(DigestMismatchError, match="has the file changed"):
        client.upload(delta.blob, other.read_range)
    assert client.find_missing(delta.blob.parts) == list(delta.blob.parts)


@pytest.mark.parametrize(
    ("lengths", "sentence"), [([99], "ended after 99"), ([100, 1], "more came"), ([], "ended after 0")]
)
def test_wrong_length_leaves_nothing(stub, client, lengths, sentence):
    delta = make_delta([100])
    with pytest.raises(grpc.RpcError) as caught:
        stub.UploadPart(_messages(delta, lengths))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in caught.value.details()
    assert client.find_missing(delta.blob.parts) == list(delta.blob.parts)


def test_a_stream_that_is_cut_off_leaves_nothing(stub, client, federation):
    delta, sent, never = make_delta([3 * MIB]), threading.Event(), threading.Event()

    def messages():
        yield from _messages(delta, [MIB, MIB])
        sent.set()
        never.wait(30)

    call = stub.UploadPart.future(messages())
    assert sent.wait(30)
    call.cancel()
    never.set()
    assert client.find_missing(delta.blob.parts) == list(delta.blob.parts)
    report = client.upload(delta.blob, delta.read_range)
    assert report.sent_bytes == 3 * MIB
    assert federation.objects.has(delta.blob.parts[0].digest, 3 * MIB)


def test_an_upload_without_a_free_slot_is_told_so_at_once_and_tries_again(federation, monkeypatch):
    delta, other, never = make_delta([2 * MIB]), make_delta([10], seed=1), threading.Event()
    began, open_writer = threading.Event(), federation.store.open_writer
    monkeypatch.setattr(federation.store, "open_writer", lambda key: began.set() or open_writer(key))

    def messages():
        yield from _messages(delta, [MIB])
        never.wait(30)

    with (
        serve_gateway(federation, GatewaySettings(max_streams=1)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
        GatewayClient(gateway.address, retry_s=20.0) as client,
    ):
        upload_part = gateway_pb2_grpc.GatewayStub(channel).UploadPart
        slow = upload_part.future(messages())
        assert began.wait(30)
        with pytest.raises(grpc.RpcError, match="as many uploads as it can") as caught:
            upload_part(_messages(other, [10]), timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        threading.Timer(0.5, slow.cancel).start()
        assert client.upload(other.blob, other.read_range).sent_bytes == 10
        never.set()


def test_an_error_of_the_reader_is_the_uploads(client):
    delta = make_delta([MIB, MIB])

    def read(buffer, start):
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        client.upload(delta.blob, read)


def test_a_part_beyond_the_bound_is_refused_before_it_is_sent(stub):
    header = pb.UploadPartRequest(header=pb.Part(digest="0" * 64, size_bytes=1 << 40))
    with pytest.raises(grpc.RpcError, match="cut the file into smaller parts"):
        stub.UploadPart(iter([header]))


def test_an_upload_without_header_or_with_a_bad_digest_is_refused(stub):
    for message in (pb.UploadPartRequest(chunk=b"x"), pb.UploadPartRequest(header=pb.Part(digest="../../etc/passwd"))):
        with pytest.raises(grpc.RpcError) as caught:
            stub.UploadPart(iter([message]))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"base_digest": "0" * 64}, RoundClosedError),
        ({"round": 9}, ContributionRejectedError),
        ({"federation": "0" * 64}, ContributionRejectedError),
        ({"delta_digest": "0" * 64}, ContributionRejectedError),
    ],
)
def test_a_contribution_that_does_not_fit_is_refused_and_leaves_nothing(client, federation, changes, kind):
    delta = make_delta([10])
    client.upload(delta.blob, delta.read_range)
    with pytest.raises(kind):
        client.commit(make_manifest(delta.blob, **changes))
    assert not federation.journal(1).state().received


def test_a_contribution_whose_parts_are_missing_is_refused(client):
    delta = make_delta([10, 20, 30])
    with pytest.raises(ContributionRejectedError, match="3 of 3 parts have not arrived"):
        client.commit(make_manifest(delta.blob))


@pytest.mark.parametrize("event", [Closed(contributions=(), reason="x"), Abandoned(reason="x")])
def test_a_contribution_to_a_round_that_closed_is_refused(client, federation, event):
    delta = make_delta([10])
    client.upload(delta.blob, delta.read_range)
    journal = federation.journal(1)
    journal.state()
    journal.append(event)
    with pytest.raises(RoundClosedError):
        client.commit(make_manifest(delta.blob))


def test_a_manifest_beyond_the_bound_is_refused_at_both_ends(client, stub):
    parts = tuple(Part(digest=sha256(str(n).encode()), size_bytes=1) for n in range(25_000))
    with pytest.raises(CodecError, match="at most 2,097,152"):
        client.commit(make_manifest(Blob(parts=parts)))
    with pytest.raises(grpc.RpcError, match="at most 2,097,152"):
        stub.Commit(pb.CommitRequest(manifest_json=b" " * (3 * MIB)))


def test_many_commits_at_once_are_all_taken(client, federation):
    delta = make_delta([10])
    client.upload(delta.blob, delta.read_range)
    manifests = [make_manifest(delta.blob, contributor=f"node-{number}") for number in range(64)]
    with ThreadPoolExecutor(16) as pool:
        receipts = list(pool.map(client.commit, manifests))
    assert {receipt.contribution for receipt in receipts} == set(federation.journal(1).state().received)


def test_the_status_says_where_the_federation_stands(client, federation):
    delta = make_delta([10])
    client.upload(delta.blob, delta.read_range)
    client.commit(make_manifest(delta.blob))
    status = client.status()
    assert (status.federation, status.name, status.latest.model_digest) == (FEDERATION, "tiny", BASE_DIGEST)
    assert (status.round.number, status.round.is_open, status.round.num_received) == (1, True, 1)
    assert status.round.contributors == ("ada",)
    assert status.round.waits_for == "no contribution yet, 2 make the quorum; 1 not screened yet"
    assert status.poll_after_s >= 0.5


def test_polling_costs_the_store_next_to_nothing(federation, monkeypatch):
    with serve_gateway(federation) as gateway, GatewayClient(gateway.address) as client:
        client.status()
        lists, list_keys = [], federation.store.list
        monkeypatch.setattr(federation.store, "list", lambda *a, **k: lists.append(1) or list_keys(*a, **k))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: client.status(), range(500)))
        assert len(lists) < 100


def test_a_contribution_that_never_came_has_no_verdict(client):
    with pytest.raises(ObjectNotFoundError, match="has received no contribution"):
        client.verdict(1, "0" * 64)


def _admit(federation, contribution):
    journal = federation.journal(1)
    journal.state()
    admission = Admission(contribution=contribution, contributor="ada", delta_digest="0" * 64, num_examples=1)
    journal.append(Admitted(admissions=(admission,)))
    return journal


def _messages(delta, lengths):
    """Send chunks of these lengths under the header of the delta's first part."""
    part = delta.blob.parts[0]
    data = bytearray(part.size_bytes)
    delta.read_range(memoryview(data), 0)
    data += b"more"
    yield pb.UploadPartRequest(header=pb.Part(digest=part.digest, size_bytes=part.size_bytes))
    start = 0
    for length in lengths:
        yield pb.UploadPartRequest(chunk=bytes(data[start : start + length]))
        start += length
