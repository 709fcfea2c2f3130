"""A network that cuts, holds, loses and disorders what passes: clients get through, with the right bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from fault.bad_network import BadNetwork
from federations import Delta, make_delta, make_manifest
from tiny_rounds import floats, lead, make_federation, make_model
from wire_proxy import Exchange, Messages, WireProxy

from coldfuse.consumer import fetch
from coldfuse.contributor.mending import send_files
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.contribution import ContributionManifest, Score
from coldfuse.core.serialization import encode, sha256
from coldfuse.errors import DigestMismatchError, TransportError
from coldfuse.gateway import ContributionVerdict
from coldfuse.registry.federation import Federation
from coldfuse.transport import client as client_module
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.server import GatewaySettings, RunningGateway, serve_gateway

MIB = 1 << 20
METHODS = ("GetStatus", "GetRelease", "ReadObject", "FindMissing", "UploadPart", "Commit", "GetVerdict")


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """Return one whose release has a part of 1 MiB, and whose first round is open."""
    large = {"large.weight": floats(np.random.default_rng(0).normal(size=(512, 512)))}
    federation = make_federation(tmp_path, make_model() | large)
    lead(federation)
    return federation


def manifest_of(federation: Federation, delta: Delta) -> ContributionManifest:
    latest = federation.latest()
    return make_manifest(delta.blob, federation=federation.settings.federation, base_digest=latest.model_digest)


def serve(federation: Federation, listen: str = "127.0.0.1:0") -> RunningGateway:
    return serve_gateway(federation, GatewaySettings(listen=listen, tune_allocator=False))


def do_all(client: GatewayClient, manifest: ContributionManifest, delta: Delta, out: Path) -> ContributionVerdict:
    """Do what a node does in a round but for training."""
    client.status()
    fetch(client, out)
    client.upload(delta.blob, delta.read_range)
    verdict = client.commit(manifest)
    assert client.verdict(1, verdict.contribution) == verdict
    return verdict


def assert_all_right(federation: Federation, delta: Delta, out: Path, verdict: ContributionVerdict) -> None:
    """The model is whole, and the store has the contribution, once, with all its parts."""
    assert verdict.contribution == sha256(encode(manifest_of(federation, delta)))
    assert list(federation.journal(1).state().received) == [verdict.contribution]
    assert all(sha256(federation.store.get(f"objects/{part.digest}")) == part.digest for part in delta.blob.parts)
    check_model(federation, out)


def check_model(federation: Federation, out: Path) -> None:
    manifest = federation.latest()
    for path, blob in manifest.files.items():
        assert (out / path).read_bytes() == federation.objects.open(blob).read(0, blob.size_bytes)


def test_connections_that_are_reset_again_and_again_cost_no_byte(federation, tmp_path):
    delta = make_delta([MIB] * 6)
    with serve(federation) as one, serve(federation) as two, BadNetwork(one.address, two.address) as network:
        network.cut_after_bytes = 5 * MIB // 2
        with GatewayClient(network.address) as client:
            verdict = do_all(client, manifest_of(federation, delta), delta, tmp_path / "model")
        assert network.num_cut >= 2
    assert_all_right(federation, delta, tmp_path / "model", verdict)


def test_late_pieces_of_any_size_arrive_in_order(federation, tmp_path):
    delta = make_delta([MIB // 4] * 2)
    with serve(federation) as gateway, BadNetwork(gateway.address) as network:
        network.latency_s, network.is_dribbling = 0.01, True
        with GatewayClient(network.address) as client:
            verdict = do_all(client, manifest_of(federation, delta), delta, tmp_path / "model")
    assert_all_right(federation, delta, tmp_path / "model", verdict)


def test_a_gateway_that_vanished_without_a_word_is_called_anew(federation, monkeypatch):
    monkeypatch.setattr(client_module, "CALL_S", 1.0)
    delta, troubles = make_delta([1000]), []
    with serve(federation) as gateway, BadNetwork(gateway.address) as network:
        with GatewayClient(network.address, on_trouble=troubles.append) as client:
            client.status()
            network.swallow()
            client.status()
            network.swallow()
            assert client.find_missing(delta.blob.parts) == list(delta.blob.parts)
        assert network.num_swallowed > 0
        assert network.num_connections == 3
    assert ["no answer in time" in str(trouble) for trouble in troubles] == [True, True]


class Restarts:
    """Stops the gateway and starts another on its port, once: when a call comes, or when its answer is on its way."""

    def __init__(self, federation: Federation, method: str, *, is_answered: bool) -> None:
        self._federation, self._method, self._is_answered = federation, method, is_answered
        self.gateway = serve(federation)
        self.num_restarts = 0

    def requests(self, method: str, messages: Messages) -> Messages:
        if method == self._method and not self._is_answered and not self.num_restarts:
            self._restart()
        yield from messages

    def responses(self, method: str, messages: Messages) -> Messages:
        for message in messages:
            if method == self._method and self._is_answered and not self.num_restarts:
                self._restart()
                raise ConnectionResetError
            yield message

    def _restart(self) -> None:
        self.num_restarts += 1
        address = self.gateway.address
        self.gateway.stop(grace_s=0.0)
        self.gateway = serve(self._federation, address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.gateway.stop(grace_s=0.0)


@pytest.mark.parametrize("is_answered", [False, True], ids=["asked", "answered"])
@pytest.mark.parametrize("method", METHODS)
def test_a_gateway_that_is_started_again_in_the_middle_of_a_call_loses_nothing(
    federation, tmp_path, method, is_answered
):
    delta = make_delta([MIB // 4] * 3)
    with (
        Restarts(federation, method, is_answered=is_answered) as restarts,
        WireProxy(restarts.gateway.address, requests=restarts.requests, responses=restarts.responses) as proxy,
        GatewayClient(proxy.address) as client,
    ):
        verdict = do_all(client, manifest_of(federation, delta), delta, tmp_path / "model")
        assert restarts.num_restarts == 1
        # The call was made again: by the client, or, where no gateway had seen it yet, by gRPC's own transparent retry.
        assert count(proxy.calls, method) > 1 or not is_answered
    assert_all_right(federation, delta, tmp_path / "model", verdict)


def count(calls: list[Exchange], method: str) -> int:
    return len([call for call in calls if call.method == method])


def reordered(messages: list[bytes]) -> list[bytes]:
    return messages[:-2] + messages[:-3:-1]


def doubled(messages: list[bytes]) -> list[bytes]:
    return messages[:2] + messages[1:]


def cut(messages: list[bytes]) -> list[bytes]:
    return messages[:-1]


def flipped(messages: list[bytes]) -> list[bytes]:
    last = bytearray(messages[-1])
    last[-1] ^= 1
    return [*messages[:-1], bytes(last)]


CHANGES = [reordered, doubled, cut, flipped]


class Changes:
    """Changes the chunks of the first streams of a method."""

    def __init__(self, method: str, change: Callable[[list[bytes]], list[bytes]], *, num_streams: int = 1) -> None:
        self._method, self._change, self._num_streams = method, change, num_streams
        self._lock, self.num_changed = threading.Lock(), 0

    def __call__(self, method: str, messages: Messages) -> Messages:
        found = list(messages)
        with self._lock:
            is_changed = method == self._method and len(found) > 2 and self.num_changed < self._num_streams
            self.num_changed += is_changed
        yield from self._change(found) if is_changed else found


@pytest.mark.parametrize("change", CHANGES)
def test_a_download_whose_chunks_are_changed_on_their_way_arrives_right(federation, tmp_path, change):
    change_once = Changes("ReadObject", change)
    with (
        serve(federation) as gateway,
        WireProxy(gateway.address, responses=lambda method, it: change_once(method, smaller(method, it))) as proxy,
        GatewayClient(proxy.address) as client,
    ):
        fetch(client, tmp_path / "model")
    assert change_once.num_changed == 1
    check_model(federation, tmp_path / "model")


def smaller(method: str, messages: Messages) -> Iterator[bytes]:
    """Cut the chunks of a download into eight each, as a gateway may."""
    for message in messages:
        chunk = pb.ReadObjectResponse.FromString(message).chunk if method == "ReadObject" else b""
        if len(chunk) < 8:
            yield message
            continue
        size = len(chunk) // 8
        for start in range(0, len(chunk), size):
            yield pb.ReadObjectResponse(chunk=chunk[start : start + size]).SerializeToString()


@pytest.mark.parametrize("change", CHANGES)
def test_a_delta_whose_chunks_are_changed_on_their_way_is_sent_again(federation, tmp_path, change):
    delta, said = make_delta([3 * MIB]), []
    change_once = Changes("UploadPart", change)
    with (
        serve(federation) as gateway,
        WireProxy(gateway.address, requests=change_once) as proxy,
        GatewayClient(proxy.address) as client,
    ):
        assert send(client, delta, tmp_path, said)
    assert all(federation.objects.has(part.digest, part.size_bytes) for part in delta.blob.parts)
    assert change_once.num_changed == 1
    assert len(said) == 1
    assert "sending it again" in said[0]


def test_a_way_that_changes_every_delta_is_said_and_not_taken_for_the_nodes_fault(federation, tmp_path):
    delta = make_delta([3 * MIB])
    with (
        serve(federation) as gateway,
        WireProxy(gateway.address, requests=Changes("UploadPart", flipped, num_streams=100)) as proxy,
        GatewayClient(proxy.address) as client,
    ):
        with pytest.raises(TransportError, match=r"the delta was changed on its way .*; look for a proxy"):
            send(client, delta, tmp_path, [])
        with pytest.raises(DigestMismatchError):
            client.upload(delta.blob, delta.read_range)


def send(client: GatewayClient, delta: Delta, folder: Path, said: list[str]) -> bool:
    work = WorkFolder(folder / "work")
    data = memoryview(bytearray(delta.blob.size_bytes))
    delta.read_range(data, 0)
    work.delta.write_bytes(data)
    trained = Trained(
        base_release=0, base_digest="0" * 64, work_digest="0" * 64, num_examples=1, num_steps=1,
        score=Score(before=0, after=1), encoding="F32", delta=delta.blob,
    )  # fmt: skip
    return send_files(client, work, trained, check=lambda: None, progress=lambda done, total: None, tell=said.append)
