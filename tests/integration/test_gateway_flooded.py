"""A flood of strangers, and one of a member, leave other members their shares: counted in a process of its own."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from federations import make_delta, make_manifest, open_round
from gateway_process import MIB, GatewayProcess
from raw_http2 import DATA, RawConnection, frame, message_start
from rooted import TrustedFederation
from signed_calls import ANSWERED, RawCaller

from coldfuse.core.serialization import encode
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.frames import method_path
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.status import AUTH_KEY
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.requests import sign_request

MEMORY_MIB = 192
CUT_OFF = "StatusCode.CANCELLED"
"""What gRPC says where more calls have come than are looked at; a node tries again."""
STATUS, SIGNED, JOIN = map(method_path, ("GetStatus", "GetSigned", "Join"))


class Flooded:
    """A gateway with some members, and what floods it."""

    def __init__(self, folder: Path) -> None:
        self.trusted = TrustedFederation(LocalStore(folder))
        open_round(self.trusted.federation)
        self.ada, self.bob = self.trusted.enroll("ada"), self.trusted.enroll("bob")
        self.process = GatewayProcess(folder, "--memory", f"{MEMORY_MIB}MiB")
        self.caller = RawCaller(self.process.address)
        self.caller.meet(self.ada, STATUS, b"")

    def claim(self, identity: Identity, path: str, body: bytes) -> str:
        return sign_request(
            identity, path, body=body, gateway=self.caller.gateway, now_s=time.time(), nonce=secrets.token_bytes(16)
        )

    def require_served(self, *, seed: int) -> None:
        """Have a member contribute, and the gateway keep to its memory."""
        delta = make_delta([2 * MIB, 5], seed=seed)
        with GatewayClient(self.process.address, identity=self.ada, retry_s=30.0) as client:
            assert client.upload(delta.blob, delta.read_range).sent_bytes == 2 * MIB + 5
            manifest = make_manifest(
                delta.blob, contributor="ada", federation=self.trusted.keys.fingerprint, num_examples=seed + 1
            )
            assert client.commit(manifest, self.ada.sign(encode(manifest), "contribution")).contribution
            assert client.status().name == "tiny"
        assert self.process.peak_mib < MEMORY_MIB


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flooded]:
    flooded = Flooded(tmp_path_factory.mktemp("flooded") / "store")
    with flooded.process:
        yield flooded
        flooded.caller.close()


@contextmanager
def flood(*ask: Callable[[RawCaller], str], address: str) -> Iterator[Counter[str]]:
    """Ask all the time, from as many threads, and count what came of it."""
    ended, outcomes = threading.Event(), Counter[str]()

    def run(once: Callable[[RawCaller], str]) -> None:
        caller = RawCaller(address)
        while not ended.is_set():
            outcomes[once(caller)] += 1
        caller.close()

    threads = [threading.Thread(target=run, args=(each,)) for each in ask]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_strangers_who_ask_without_end_keep_no_member_out(flooded: Flooded) -> None:
    flooded.trusted.invite("carl")
    forged = Identity("ada", flooded.trusted.keys.fingerprint, PrivateKey.generate())
    borrowed = flooded.claim(flooded.ada, STATUS, b"")
    spoiled = borrowed[:-8] + "AAAAAAA="
    root = pb.GetSignedRequest(key="root/1.json").SerializeToString()
    with flood(
        lambda caller: caller.ask(STATUS, b"").kind,
        lambda caller: caller.ask(SIGNED, root).kind,
        lambda caller: caller.ask(STATUS, b"", flooded.claim(forged, STATUS, b"")).kind,
        lambda caller: caller.ask(STATUS, b"", spoiled).kind,
        lambda caller: caller.ask(JOIN, pb.JoinRequest(statement=b"x" * MIB).SerializeToString()).kind,
        address=flooded.process.address,
    ) as outcomes:
        flooded.require_served(seed=1)
    assert min(outcomes["NotAllowedError"], outcomes["SignatureError"], outcomes[ANSWERED]) > 0
    assert outcomes.keys() <= {"NotAllowedError", "SignatureError", "GatewayBusyError", CUT_OFF, "CodecError", ANSWERED}


def test_strangers_who_say_nothing_keep_no_member_out_and_no_stranger(flooded: Flooded) -> None:
    with ExitStack() as stack:
        for path in itertools.chain.from_iterable([(SIGNED, JOIN)] * 2):
            connection = stack.enter_context(RawConnection(flooded.process.address))
            for _ in range(60):
                stream = connection.open_call(path)
                connection.socket.sendall(frame(DATA, message_start(2 * MIB, b"x" * 100), stream=stream))
        flooded.require_served(seed=2)
        with GatewayClient(flooded.process.address, retry_s=60.0) as stranger:
            assert stranger.read_signed("root/1.json")


def test_a_member_who_floods_keeps_no_other_out(flooded: Flooded) -> None:
    commit = method_path("Commit")
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(RawConnection(flooded.process.address))
            for _ in range(60):
                claim = flooded.claim(flooded.bob, commit, b"?")
                stream = connection.open_call(commit, extra={AUTH_KEY: claim})
                connection.socket.sendall(frame(DATA, message_start(2 * MIB, b"x" * 1000), stream=stream))
        with flood(
            *[lambda caller: caller.ask(STATUS, b"", flooded.claim(flooded.bob, STATUS, b"")).kind] * 4,
            address=flooded.process.address,
        ) as outcomes:
            flooded.require_served(seed=3)
    assert outcomes[ANSWERED] > 0
    assert outcomes.keys() <= {"GatewayBusyError", CUT_OFF, ANSWERED}


def test_requests_without_number_take_no_memory(flooded: Flooded) -> None:
    """Signed well they are remembered, up to a bound; signed badly they are not."""
    before_mib = flooded.process.memory_mib
    bad = flooded.claim(flooded.bob, STATUS, b"")[:-8] + "AAAAAAA="
    caller, counted = flooded.caller, Counter[str]()
    for number in range(1000):
        claim = bad if number % 2 else flooded.claim(flooded.bob, STATUS, b"")
        counted[caller.ask(STATUS, b"", claim).kind] += 1
    assert counted == {ANSWERED: 500, "SignatureError": 500}
    assert flooded.process.memory_mib < before_mib + 16
