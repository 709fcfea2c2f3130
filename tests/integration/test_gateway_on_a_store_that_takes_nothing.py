"""A gateway whose store takes nothing serves what there is, says so, and recovers by itself."""

import resource
import signal

import pytest
from federations import BASE_CONFIG, make_delta, make_manifest
from gateway_process import GatewayProcess
from raw_http2 import until

from coldfuse.errors import StorageError
from coldfuse.gateway import Decision
from coldfuse.transport.client import GatewayClient


def refuse_every_write() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def test_reads_are_served_and_contributions_taken_once_it_can_be_written_to(tmp_path):
    delta = make_delta([1000])
    with (
        GatewayProcess(tmp_path / "store", prepare=refuse_every_write) as gateway,
        GatewayClient(gateway.address, retry_s=0.0) as client,
    ):
        assert "this gateway takes no contributions: " in client.status().round.waits_for
        config = client.release().files["config.json"].parts[0]
        buffer = bytearray(config.size_bytes)
        client.read_into(0, config.digest, memoryview(buffer))
        assert bytes(buffer) == BASE_CONFIG
        with pytest.raises(StorageError, match="takes no contributions at present: "):
            client.upload(delta.blob, delta.read_range)
        with pytest.raises(StorageError, match="takes no contributions at present: "):
            client.commit(make_manifest(delta.blob))

        gateway.seen.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert until(lambda: "takes no contributions" not in client.status().round.waits_for)
        client.upload(delta.blob, delta.read_range)
        assert client.commit(make_manifest(delta.blob)).decision is Decision.PENDING
