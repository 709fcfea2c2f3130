"""A whole node behind a bad network, and gateways whose clocks are hours apart: the round ends in the same release."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from commands import Process, wait_until
from fault.bad_network import BadNetwork
from fault.test_node_rot import ONE_EPOCH, write_base
from reviews import write_reviews
from tiny_rounds import lead, make_changes, make_contribution, make_federation, make_model
from upgrades.record import node_of

from coldfuse.gateway import Decision, StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import GatewaySettings, serve_gateway

HOUR_S = 3600.0
GATEWAY = """
import sys, time
clock, ahead_s = time.time, float(sys.argv[2])
time.time = lambda: clock() + ahead_s
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.transport.server import serve_gateway
gateway = serve_gateway(open_federation(LocalStore(sys.argv[1])))
print(gateway.address, flush=True)
gateway.wait()
"""


def play(folder: Path, network: BadNetwork | None = None) -> tuple[Federation, list]:
    """Let a node take part in one round, straight on the store or through gateways behind a network."""
    federation = open_federation(LocalStore(folder / "store"))

    def report(event) -> bool:
        if event.phase == "waiting":
            lead(federation, 1)
        return False

    write_reviews(folder / "data.csv", num=40)
    with GatewayClient(network.address, retry_s=60.0) if network else StoreGateway(federation) as gateway:
        node, events = node_of(federation, folder, name="ada", training=ONE_EPOCH, is_end=report, gateway=gateway)
        node.run(rounds=1)
    return federation, events


def test_a_node_comes_to_the_same_release_through_a_network_that_cuts_dribbles_and_is_late(tmp_path):
    undisturbed = play(write_base(tmp_path / "undisturbed"))[0]
    federation = open_federation(LocalStore(write_base(tmp_path / "disturbed") / "store"))
    settings = GatewaySettings(tune_allocator=False)
    with (
        serve_gateway(federation, settings) as one,
        serve_gateway(federation, settings) as two,
        BadNetwork(one.address, two.address) as network,
    ):
        network.cut_after_bytes, network.latency_s, network.is_dribbling = 11_000, 0.005, True
        played, events = play(tmp_path / "disturbed", network)
    assert network.num_cut >= 2
    assert events[-1].phase == "released"
    assert played.latest().model_digest == undisturbed.latest().model_digest
    assert len(played.journal(1).state().received) == 1


@pytest.mark.parametrize("ahead_s", [-5 * HOUR_S, 5 * HOUR_S])
def test_gateways_whose_clocks_are_hours_apart_serve_one_round(tmp_path, ahead_s):
    model = make_model()
    federation = make_federation(tmp_path, model, quorum=2)
    lead(federation, now_s=time.time())
    gateways = [Process(sys.executable, "-c", GATEWAY, federation.store.url, shift) for shift in (0.0, ahead_s)]
    with gateways[0], gateways[1]:
        digests = []
        for seed, gateway in enumerate(gateways):
            address = gateway.wait_for(lambda line: ":" in line)
            manifest = make_contribution(federation, f"c{seed}", make_changes(model, seed))
            with GatewayClient(address) as client:
                assert client.status().round.is_open
                digests.append(client.commit(manifest).contribution)
        lead(federation, now_s=time.time())
        for gateway, digest in zip(gateways, reversed(digests), strict=True):
            with GatewayClient(gateway.lines[0]) as client:
                wait_until(lambda: client.verdict(1, digest).decision is Decision.ADMITTED, "the verdict")  # noqa: B023
                wait_until(lambda: client.status().latest.number == 1, "the release")
