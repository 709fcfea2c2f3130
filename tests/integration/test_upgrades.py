"""A store, nodes' folders and a client's session of an older version: today's code goes on with them.

They were recorded by `tests/upgrades/record.py`, with what the older code makes of them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tiny_rounds import lead
from upgrades.record import node_of, outcome, outcome_of, unpack

from coldfuse.consumer import fetch
from coldfuse.contributor.events import StoppedError
from coldfuse.gateway import Decision, StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.job import TrainingSettings
from coldfuse.transport.server import GatewaySettings, serve_gateway

RECORDED = Path(__file__).parent.parent / "data" / "layout_1"
EXPECTED = json.loads((RECORDED / "expected.json").read_text())
SESSION = json.loads((RECORDED / "session.json").read_text())
WORDS = {"waitsFor", "reason", "pollAfterMs"}
"""What a gateway may say otherwise, as long as it says it."""
NAMES = {"contributors", "displayNames"}
"""What a gateway may keep to itself."""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return open_federation(LocalStore(unpack(RECORDED / "store.tar.gz", tmp_path / "store")))


def assert_contains(found: object, recorded: object, where: str = "") -> None:
    """Assert that what was recorded is still there; more may have come."""
    if isinstance(recorded, dict):
        assert isinstance(found, dict), where
        for name, value in recorded.items():
            if name not in NAMES:
                assert name in found, f"{where}: {name} is not said"
                assert name in WORDS or assert_contains(found[name], value, f"{where}.{name}") is None
    elif isinstance(recorded, list):
        assert len(found) == len(recorded), where
        for index, (new, old) in enumerate(zip(found, recorded, strict=True)):
            assert_contains(new, old, f"{where}[{index}]")
    else:
        assert found == recorded, where


def test_everything_in_the_store_is_read(federation, tmp_path):
    gateway = StoreGateway(federation)
    status = gateway.status()
    assert (status.federation, status.display_name) == (EXPECTED["federation"], EXPECTED["display_name"])
    assert (status.round.number, status.round.is_open, status.latest.number) == (4, True, 2)
    assert (status.round.num_received, status.round.num_admitted, status.round.num_rejected) == (3, 2, 1)
    assert [str(change) for change in gateway.changes()] == EXPECTED["changes"]
    assert [summary.name.number for summary in gateway.releases()] == [2, 1, 0]
    assert federation.journal(3).state().abandoned.reason == EXPECTED["abandoned"]
    for digest, reason in EXPECTED["rejected"].items():
        assert gateway.verdict(4, digest).reason == reason
    assert gateway.verdict(4, EXPECTED["waiting"][0]).decision is Decision.PENDING


@pytest.mark.parametrize("number", [0, 1, 2])
def test_its_releases_are_fetched(federation, tmp_path, number):
    recorded = EXPECTED["releases"][str(number)]
    assert_contains(outcome(federation.release(number)), recorded)
    fetch(StoreGateway(federation), tmp_path / "model", which=number)
    assert open_checkpoint(tmp_path / "model").digest() == recorded["model_digest"]


def test_its_open_round_ends_in_the_release_that_the_older_code_makes(federation):
    assert_contains(outcome_of(federation), EXPECTED["without_session"])


def test_the_recording_holds_what_can_be_lost_on_the_way():
    release = EXPECTED["with_session"]
    assert set(release["outer"]["files"]) == {"momentum/model.safetensors", "residual/model.safetensors"}
    assert [each["contributor"] for each in release["contributions"]] == ["fay", "bob", "ada", "cy"]
    assert {call["method"] for call in SESSION} == {method.name for method in methods()}


def methods() -> Iterator:
    """The gateway's methods, as the older client knows them."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString((RECORDED / "gateway_proto.bin").read_bytes()))
    yield from pool.FindServiceByName("coldfuse.v1.Gateway").methods


def test_an_older_client_is_understood_and_understands(federation):
    kinds = {method.name: message_factory.GetMessageClass(method.output_type) for method in methods()}
    with (
        serve_gateway(federation, GatewaySettings(tune_allocator=False)) as gateway,
        grpc.insecure_channel(gateway.address) as channel,
    ):
        for call in SESSION:
            requests = [base64.b64decode(each) for each in call["requests"]]
            answers = channel.stream_stream(f"/coldfuse.v1.Gateway/{call['method']}")(iter(requests), timeout=60)
            found = [MessageToDict(read(kinds[call["method"]], answer)) for answer in answers]
            recorded = [MessageToDict(read(kinds[call["method"]], decoded)) for decoded in decode_all(call)]
            if call["method"] == "FindMissing":  # who does not say who it is hears of no part that is there
                assert set(recorded[0]["digests"]) < set(found[0]["digests"])
                continue
            assert_contains(found, recorded, call["method"])

    assert_contains(outcome_of(federation), EXPECTED["with_session"])


def read(kind: type[Message], data: bytes) -> Message:
    message = kind()
    message.ParseFromString(data)
    return message


def decode_all(call: dict) -> list[bytes]:
    return [base64.b64decode(each) for each in call["responses"]]


def test_a_node_goes_on_in_the_middle_of_its_training(federation, tmp_path):
    node, events = resumed(federation, tmp_path, "training", "dan", lambda event: event.phase == "committed")
    with pytest.raises(StoppedError):
        node.run(rounds=1)
    steps = [int(match[1]) for event in events if (match := re.search(r"step (\d+) of", event.message))]
    assert next(step for step in steps if step) == 8
    assert "committed" in [event.phase for event in events]


def test_a_node_that_has_sent_hears_its_verdict_and_sends_nothing_again(federation, tmp_path):
    def lead_when_it_waits(event) -> bool:
        if event.phase == "waiting":
            lead(federation, 4, now_s=EXPECTED["opened_at_s"] + 10)
        return False

    node, events = resumed(federation, tmp_path, "sent", "cy", lead_when_it_waits)
    node.run(rounds=1)
    assert {event.phase for event in events} == {"waiting", "released"}
    assert_contains(outcome(federation.latest()), EXPECTED["without_session"])


def resumed(federation: Federation, tmp_path: Path, which: str, name: str, is_end):
    folder = unpack(RECORDED / f"node_{which}.tar.gz", tmp_path / "node")
    return node_of(federation, folder, name=name, training=TrainingSettings(**EXPECTED["training"]), is_end=is_end)
