"""What consumers ask a gateway for: releases, their parts, and the history."""

import time

import grpc
import pytest
from federations import (
    BASE_CONFIG,
    BASE_MODEL,
    make_delta,
    make_federation,
    open_round,
)

from coldfuse.core.blob import Blob, Part
from coldfuse.core.release import FusedContribution
from coldfuse.core.serialization import sha256
from coldfuse.errors import (
    FederationError,
    ObjectNotFoundError,
    UserInputError,
)
from coldfuse.gateway import ContributionSummary
from coldfuse.storage import LocalStore, MemoryStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.pb import gateway_pb2_grpc
from coldfuse.transport.server import serve_gateway

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


def test_a_consumer_reads_releases_and_nothing_else(client):
    delta = make_delta([10])
    client.upload(delta.blob, delta.read_range)
    files = client.release().files
    for name, data in {"config.json": BASE_CONFIG, "model.safetensors": BASE_MODEL}.items():
        buffer = bytearray(len(data) - 3)
        client.read_into(0, files[name].parts[0].digest, memoryview(buffer), 3)
        assert buffer == data[3:]
    with pytest.raises(ObjectNotFoundError, match="only what a release lists can be read"):
        client.read_into(0, delta.blob.parts[0].digest, memoryview(bytearray(10)))
    with pytest.raises(UserInputError, match="asked for bytes up to"):
        client.read_into(0, files["config.json"].parts[0].digest, memoryview(bytearray(100)))


@pytest.mark.parametrize("channel", ["../x", "", "a/b", "x" * 300, "a\0"])
def test_a_channel_that_makes_no_key_is_the_callers_mistake_and_not_asked_for_again(client, channel):
    began = time.monotonic()
    with pytest.raises(UserInputError, match="is no channel's name"):
        client.release(channel)
    assert time.monotonic() - began < 4.0


def test_the_history_names_who_contributed(client, federation):
    fused = FusedContribution(
        contribution="1" * 64, contributor="ada", delta_digest="2" * 64, num_examples=7, weight=0.5
    )
    changes = {"release": 1, "parent": 0, "round": 1, "contributions": (fused,)}
    federation.publish(federation.release(0).model_copy(update=changes))
    newest, oldest = client.releases()
    assert newest.contributions == (
        ContributionSummary(contributor="ada", num_examples=7, weight=0.5, contribution="1" * 64),
    )
    assert newest.name.manifest_digest == sha256(federation.release_bytes(1))
    assert oldest.contributions == ()


def test_a_page_of_long_releases_ends_early(client, stub, federation):
    fused = [
        FusedContribution(
            contribution=sha256(bytes([n % 256])),
            contributor=f"n{n}",
            delta_digest="2" * 64,
            num_examples=7,
            weight=0.5,
        )
        for n in range(12_000)
    ]
    base = federation.release(0)
    for number in range(1, 5):
        changes = {"release": number, "parent": number - 1, "round": number, "contributions": tuple(fused)}
        federation.publish(base.model_copy(update=changes))
    page = stub.ListReleases(pb.ListReleasesRequest())
    assert ([r.release.number for r in page.releases], page.next_before) == ([4, 3], 3)
    assert [summary.name.number for summary in client.releases()] == [4, 3, 2, 1, 0]


def test_a_manifest_as_long_as_manifests_may_be_arrives(client, federation):
    parts = tuple(Part(digest=sha256(str(n).encode()), size_bytes=1) for n in range(80_000))
    base = federation.release(0)
    files = base.files | {"model.safetensors": Blob(parts=parts)}
    federation.publish(base.model_copy(update={"release": 1, "parent": 0, "round": 1, "files": files}))
    assert len(federation.release_bytes(1)) > 7 * MIB
    assert client.release().files == files


def test_releases_are_found_by_number_and_channel(client, federation):
    release = federation.release(0)
    for number in range(1, 103):
        federation.publish(release.model_copy(update={"release": number, "parent": number - 1, "round": number}))
    assert client.release(5).release == 5
    assert client.release().release == 102
    assert [summary.name.number for summary in client.releases()] == list(range(102, -1, -1))
    assert [summary.parent for summary in client.releases()][-1] is None
    with pytest.raises(FederationError, match="there is no release 103; the latest is 102"):
        client.release(103)
    with pytest.raises(FederationError, match="no channel"):
        client.release("nightly")
