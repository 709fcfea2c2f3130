"""Between a gateway and its client: streams that break, limits and many callers. `tests/contract` has the rest."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from federations import make_delta, make_federation, open_round

from coldfuse.core.blob import Blob, Part
from coldfuse.core.serialization import sha256
from coldfuse.storage import LocalStore, MemoryStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.pb import gateway_pb2_grpc
from coldfuse.transport.server import GatewaySettings, serve_gateway
from coldfuse.transport.status import RETRY_KEY

MIB = 1 << 20


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


def test_a_part_that_is_there_is_taken_again_to_its_last_byte(stub, client):
    delta = make_delta([100])
    client.upload(delta.blob, delta.read_range)
    assert stub.UploadPart(_messages(delta, [100])).received_bytes == 100
    with pytest.raises(grpc.RpcError, match="ended after 99"):
        stub.UploadPart(_messages(delta, [99]))


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


def test_an_upload_that_stands_gives_way_to_one_that_waits(federation, monkeypatch):
    delta, other, never = make_delta([2 * MIB]), make_delta([10], seed=1), threading.Event()
    began, open_writer = threading.Event(), federation.store.open_writer
    monkeypatch.setattr(federation.store, "open_writer", lambda key: began.set() or open_writer(key))

    def messages():
        yield from _messages(delta, [MIB])
        never.wait(30)

    with (
        serve_gateway(federation, GatewaySettings(max_streams=1, stall_s=0.1)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
        GatewayClient(gateway.address, retry_s=20.0) as client,
    ):
        slow = gateway_pb2_grpc.GatewayStub(channel).UploadPart.future(messages())
        assert began.wait(30)
        assert client.upload(other.blob, other.read_range).sent_bytes == 10
        with pytest.raises(grpc.RpcError, match="moved too little while others waited"):
            slow.result(timeout=30)
        never.set()
    assert slow.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(slow.trailing_metadata())[RETRY_KEY].isdecimal()


def test_a_part_beyond_the_bound_is_refused_before_it_is_sent(stub):
    header = pb.UploadPartRequest(header=pb.Part(digest="0" * 64, size_bytes=1 << 40))
    with pytest.raises(grpc.RpcError, match="cut the file into smaller parts"):
        stub.UploadPart(iter([header]))


def test_a_call_that_makes_no_sense_is_refused_in_its_callers_words(stub):
    calls = [
        (stub.UploadPart, iter([pb.UploadPartRequest(chunk=b"x")]), "expected the header first"),
        (stub.UploadPart, iter([]), "expected the header first"),
        (stub.GetRelease, pb.GetReleaseRequest(), "expected a number or a channel"),
        (stub.Commit, pb.CommitRequest(manifest_json=b" " * (2 * MIB + 1)), "at most 2,097,152"),
    ]
    for method, request, sentence in calls:
        with pytest.raises(grpc.RpcError, match=sentence) as caught:
            method(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_manifest_as_long_as_manifests_may_be_arrives(client, federation):
    parts = tuple(Part(digest=sha256(str(n).encode()), size_bytes=1) for n in range(80_000))
    base = federation.release(0)
    files = base.files | {"model.safetensors": Blob(parts=parts)}
    federation.publish(base.model_copy(update={"release": 1, "parent": 0, "round": 1, "files": files}))
    assert len(federation.release_bytes(1)) > 7 * MIB
    assert client.release().files == files


def test_polling_costs_the_store_next_to_nothing(federation, monkeypatch):
    with serve_gateway(federation) as gateway, GatewayClient(gateway.address) as client:
        client.status()
        lists, list_keys = [], federation.store.list
        monkeypatch.setattr(federation.store, "list", lambda *a, **k: lists.append(1) or list_keys(*a, **k))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: client.status(), range(500)))
        assert len(lists) < 100


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
