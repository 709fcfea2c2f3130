"""A gateway that is killed in the middle of an upload, and started again: the same call finishes."""

import selectors
import signal
import subprocess
import sys
import threading
import time

import pytest
from federations import make_delta, make_federation, make_manifest, open_round
from raw_http2 import until

from coldfuse.errors import TransportError
from coldfuse.gateway import Decision
from coldfuse.gateway.sent import find_lists, read_lists
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient

MIB = 1 << 20
NUM_PARTS = 12

GATEWAY = """
import ctypes, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: it dies with the test
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.transport.server import GatewaySettings, serve_gateway

gateway = serve_gateway(open_federation(LocalStore(sys.argv[1])), GatewaySettings(listen=sys.argv[2]))
print(gateway.address, flush=True)
gateway.wait()
"""


class GatewayProcess:
    """A gateway that the test can kill, and that dies with the test."""

    def __init__(self, store, listen):
        command = [sys.executable, "-c", GATEWAY, str(store), listen]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        with selectors.DefaultSelector() as selector:  # select() itself takes no descriptor above 1023
            selector.register(self._process.stdout, selectors.EVENT_READ)
            assert selector.select(60), "the gateway did not start"
        self.address = self._process.stdout.readline().strip()

    def kill(self):
        self._process.kill()
        assert self._process.wait(30) == -signal.SIGKILL

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait(30)
        self._process.stdout.close()


class GatedReader:
    """Reads the delta, but lets only so many parts through until it is opened; counts what was read."""

    def __init__(self, delta, *, num_free_parts):
        self._delta = delta
        self._last_free = num_free_parts * MIB
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.waiting = threading.Event()
        self.num_bytes = 0

    def read_range(self, buffer, start):
        if start >= self._last_free:
            self.waiting.set()
            assert self._open.wait(120)
        with self._lock:
            self.num_bytes += len(buffer)
        self._delta.read_range(buffer, start)

    def open(self):
        self._open.set()


@pytest.fixture
def federation(tmp_path):
    federation = make_federation(LocalStore(tmp_path / "store"))
    open_round(federation)
    return federation


def test_an_upload_outlives_its_gateway_and_sends_only_what_is_missing(federation):
    delta = make_delta([MIB] * NUM_PARTS)
    reader = GatedReader(delta, num_free_parts=5)
    outcome = []
    with GatewayProcess(federation.store.url, "127.0.0.1:0") as victim, GatewayClient(victim.address) as client:
        upload = threading.Thread(target=lambda: outcome.append(client.upload(delta.blob, reader.read_range)))
        upload.start()
        there = _wait_for_parts(federation, delta, at_least=5)
        assert reader.waiting.wait(60)
        victim.kill()
        assert 5 <= there < NUM_PARTS  # the fault landed: some parts are durable, not all
        with GatewayProcess(federation.store.url, victim.address):
            reader.open()
            upload.join(120)
            assert not upload.is_alive()
            receipt = client.commit(make_manifest(delta.blob))
    assert receipt.decision is Decision.PENDING
    # Of the four streams that were cut off, some had stored their part and only the answer was lost: they send nothing.
    # The others begin their part again.
    assert (NUM_PARTS - 4) * MIB <= outcome[0].sent_bytes <= NUM_PARTS * MIB
    assert NUM_PARTS * MIB <= reader.num_bytes <= (NUM_PARTS + 4) * MIB
    assert federation.journal(1).state().received.keys() == {receipt.contribution}


def test_a_second_upload_after_a_crash_of_both_ends_sends_only_the_rest(federation):
    delta = make_delta([MIB] * NUM_PARTS)
    reader = GatedReader(delta, num_free_parts=5)
    with GatewayProcess(federation.store.url, "127.0.0.1:0") as victim:
        with GatewayClient(victim.address, retry_s=0.1, secret="a node's") as client:
            upload = threading.Thread(target=_upload_in_vain, args=(client, delta, reader))
            upload.start()
            _wait_for_parts(federation, delta, at_least=5)
            assert until(lambda: _num_listed(federation) == 5)  # a moment after they came, for all gateways to know
            victim.kill()
            reader.open()
            upload.join(120)
        there = _num_there(federation, delta)
        assert 5 <= there < NUM_PARTS
    with GatewayProcess(federation.store.url, "127.0.0.1:0") as gateway:
        with GatewayClient(gateway.address, secret="a node's") as client:
            assert client.upload(delta.blob, delta.read_range).sent_bytes == (NUM_PARTS - there) * MIB
        with GatewayClient(gateway.address) as stranger:
            assert len(stranger.find_missing(delta.blob.parts)) == NUM_PARTS


def _num_listed(federation):
    store = federation.store
    return len(set().union(*(sent.parts for sent in read_lists(store, find_lists(store)).values())))


def _upload_in_vain(client, delta, reader):
    with pytest.raises(TransportError):
        client.upload(delta.blob, reader.read_range)


def _wait_for_parts(federation, delta, *, at_least):
    deadline = time.monotonic() + 60
    while (there := _num_there(federation, delta)) < at_least:
        assert time.monotonic() < deadline, f"only {there} parts arrived"
        time.sleep(0.005)
    return there


def _num_there(federation, delta):
    return sum(federation.objects.has(part.digest, part.size_bytes) for part in delta.blob.parts)
