"""An operator goes back while twenty nodes are in the middle of a round.

The nodes are threads that do all that nodes do but train, each with a folder of its own, over gRPC.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from commands import wait_until
from tiny_nodes import MODEL, TinyNode, aggregating, running
from tiny_rounds import make_federation

from coldfuse.doctor.examine import Examination
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.moving import roll_back
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway

NAMES = tuple("node" + "x" * number for number in range(20))
"""What a node sends follows from its letters: no two have the same."""

SLOW = NAMES[10:]
LONG_S = 600.0


@dataclass
class SlowNode(TinyNode):
    """A node that trains on one release for as long as it is told to."""

    slow_on: int = 1
    is_training: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def _prepare(self):  # type: ignore[no-untyped-def]
        work, trained = super()._prepare()
        if trained.base_release == self.slow_on:
            self.is_training.set()
            while not (self.go_on.wait(0.05) or self.stop.is_set()):
                pass
        return work, trained


def is_settled(federation: Federation, nodes: Sequence[TinyNode]) -> bool:
    """Tell whether whatever was acknowledged has a verdict in every round that is over.

    What a gateway recorded as the round ended under its hands it did not acknowledge: the node sent that again.
    """
    states = [federation.journal(number).state() for number in range(1, federation.current_round())]
    events = [event for node in nodes for event in node.events if event.phase == "committed"]
    acknowledged = {match[1] for event in events if (match := re.search("contribution ([0-9a-f]+)", event.message))}
    assert len(acknowledged) >= len(nodes)
    waiting = {received.contribution for state in states for received in state.waiting}
    return all(state.is_over for state in states) and not any(one.startswith(tuple(acknowledged)) for one in waiting)


def test_twenty_nodes_in_the_middle_of_a_round_follow_and_nothing_is_lost(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "f", MODEL, quorum=len(NAMES), deadline_s=3600.0)
    with (
        aggregating(federation, lease_ttl_s=30.0),
        serve_gateway(open_federation(LocalStore(federation.store.url))) as gateway,
    ):
        nodes = [
            (SlowNode if name in SLOW else TinyNode)(
                name, GatewayClient(gateway.address, retry_s=600.0), tmp_path / name
            )
            for name in NAMES
        ]
        slow = [node for node in nodes if isinstance(node, SlowNode)]
        with running(*nodes):
            wait_until(lambda: all(node.is_training.is_set() for node in slow), "half to train", limit_s=LONG_S)
            wait_until(
                lambda: len(federation.journal(2).state().admitted) == 10, "the others' verdicts", limit_s=LONG_S
            )
            operator = open_federation(LocalStore(federation.store.url))
            roll_back(operator, 0, reason="worse", by="ada", signer=None)
            for node in slow:
                node.go_on.set()
            wait_until(lambda: federation.channel("latest").release >= 2, "the next release", limit_s=LONG_S)
        wait_until(lambda: is_settled(federation, nodes), "a verdict on everything", limit_s=LONG_S)
    assert [federation.release(number).parent for number in range(3)] == [None, 0, 0]
    for number in (1, 2):
        assert {one.contributor for one in federation.release(number).contributions} == set(NAMES)
    ended = federation.journal(2).state()
    assert ended.abandoned is not None
    assert "rolled back to release 0 (worse)" in ended.abandoned.reason
    assert {one.contributor for one in ended.rejected.values()} >= set(NAMES) - set(SLOW)
    assert all(one.is_late for one in ended.rejected.values())  # whoever was told so has sent it again
    assert not set(ended.admitted) & set(ended.rejected)
    assert Examination(federation).run().is_sound
