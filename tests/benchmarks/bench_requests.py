"""What does it cost to sign every request? `pytest -m benchmark -s tests/benchmarks/bench_requests.py`.

Calls a second of a gateway in a process of its own: of a federation without a root, unsigned, and of one with a root,
signed; in turn, so that both meet the same noise. Measures, never decides: numbers go to `results/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest
from federations import open_round
from gateway_process import GatewayProcess
from rooted import TrustedFederation

from coldfuse.core.blob import Part
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

NUM_CALLS, NUM_RUNS = 1000, 7
PART = Part(digest="0" * 64, size_bytes=1)
CALLS: dict[str, Callable[[GatewayClient], object]] = {
    "GetStatus": lambda client: client.status(),
    "FindMissing": lambda client: client.find_missing([PART]),
}


def calls_per_s(clients: list[GatewayClient], call: Callable[[GatewayClient], object]) -> float:
    """Call from a thread a client, and return the calls a second of all."""

    def run(client: GatewayClient) -> None:
        for _ in range(NUM_CALLS // len(clients)):
            call(client)

    began_s = time.perf_counter()
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(run, clients))
    return NUM_CALLS / (time.perf_counter() - began_s)


@pytest.mark.parametrize("num_clients", [1, 8])
@pytest.mark.parametrize("name", CALLS)
def bench_signed_and_unsigned(tmp_path: Path, name: str, num_clients: int) -> None:
    trusted = TrustedFederation(LocalStore(tmp_path / "rooted"))
    open_round(trusted.federation)
    members = [trusted.enroll(f"m{number}") for number in range(num_clients)]
    with GatewayProcess(tmp_path / "plain") as plain, GatewayProcess(tmp_path / "rooted") as rooted:
        unsigned = [GatewayClient(plain.address) for _ in members]
        signed = [GatewayClient(rooted.address, identity=member) for member in members]
        found: dict[str, list[float]] = {"unsigned": [], "signed": []}
        for number in range(NUM_RUNS + 1):  # the first is to warm up
            for kind, clients in (("unsigned", unsigned), ("signed", signed)):
                rate = calls_per_s(clients, CALLS[name])
                if number:
                    found[kind].append(rate)
        cpu_s = {kind: sum(each.seen.cpu_times()[:2]) for kind, each in (("unsigned", plain), ("signed", rooted))}
        for client in (*unsigned, *signed):
            client.close()
        memory = f"{plain.memory_mib:.0f} and {rooted.memory_mib:.0f} MiB"
    for kind, rates in found.items():
        ms = cpu_s[kind] / (NUM_CALLS * (NUM_RUNS + 1)) * 1000
        print(
            f"{name}, {num_clients} clients, {kind}: median {median(rates):.0f} calls/s "
            f"({min(rates):.0f} to {max(rates):.0f}), {ms:.2f} ms of the gateway's processor a call"
        )
    print(f"{name}, {num_clients} clients: memory {memory}")
    assert median(found["signed"]) > 0
