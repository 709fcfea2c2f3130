"""What is left of a round when its last contribution has been acknowledged, and what a contribution costs the store.

Contributors upload made-up deltas through a gateway, all at once; the clock runs from the last acknowledgement to the
release. Beside it: reading the same bytes, base and deltas, from the same store.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coldfuse.core.blob import Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.errors import ColdfuseError
from coldfuse.experiments.bench_fuse import Spread
from coldfuse.experiments.bench_transfer import MIB, scratch_store
from coldfuse.gateway import Status
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.simulation.audit import count_files
from coldfuse.simulation.deltas import DeltaMaker, write_base
from coldfuse.simulation.plan import Crowd
from coldfuse.simulation.servers import Aggregation, Happening, Server, aggregator_process, gateway_process
from coldfuse.simulation.visit import End, Outcome, make_visit
from coldfuse.storage import open_store
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.transport.client import GatewayClient

_TIMEOUT_S = 600.0
_MAX_CLIENTS = 16


@dataclass(frozen=True, kw_only=True)
class RoundOptions:
    """What is measured."""

    num_contributors: int = 16
    num_parameters: int = 22_000_000
    method: str = "mean"
    num_workers: int = 2
    on_ray: bool = False
    num_runs: int = 3
    """Counted rounds, each in a store of its own; one more warms up."""
    folder: Path | None = None
    """Where the store lies; None: the system's temporary folder."""
    store: str | None = None
    """A `s3://` url for a store there; None: in the folder."""


@dataclass(frozen=True, kw_only=True)
class RoundFigures:
    """What was measured."""

    num_contributors: int
    num_parameters: int
    method: str
    store: str
    on_ray: bool
    num_runs: int
    delta_mib: float
    upload_s: Spread
    """From the first connection to the last acknowledgement."""
    release_s: Spread
    """From the last acknowledgement to the release."""
    screening_s: Spread
    """Part of it until the round was closed: what was still to be judged, and noticing that all are there."""
    fusing_s: Spread
    """Part of it until the fused model lay in the store."""
    publishing_s: Spread
    """Part of it until the release was out."""
    read_s: Spread
    """Reading base and deltas from the same store, on as many threads as there are workers."""
    release_over_read: Spread
    gateway_operations: float
    """Store operations of the gateway, a contribution."""
    aggregator_operations: float
    """Store operations of the aggregator, a contribution; on Ray without those of its tasks."""
    files: float
    """Objects in the store, a contribution, the release's included."""
    gateway_peak_mib: Spread
    aggregator_peak_mib: Spread
    """Resident memory of the aggregator's own process; on Ray its workers are others."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    upload_s: float
    release_s: float
    screening_s: float
    fusing_s: float
    publishing_s: float
    read_s: float
    gateway_operations: int
    aggregator_operations: int
    files: int
    gateway_mib: float
    aggregator_mib: float
    delta_bytes: int


def bench_round(options: RoundOptions) -> Iterator[RoundFigures]:
    """Measure rounds, each in a new store."""
    runs = [_run(options) for _ in range(options.num_runs + 1)][1:]
    each = 1 / options.num_contributors
    yield RoundFigures(
        num_contributors=options.num_contributors, num_parameters=options.num_parameters, method=options.method,
        store=options.store or "folder", on_ray=options.on_ray, num_runs=options.num_runs,
        delta_mib=round(runs[-1].delta_bytes / MIB, 1),
        upload_s=Spread.of([run.upload_s for run in runs]), release_s=Spread.of([run.release_s for run in runs]),
        screening_s=Spread.of([run.screening_s for run in runs]), fusing_s=Spread.of([run.fusing_s for run in runs]),
        publishing_s=Spread.of([run.publishing_s for run in runs]), read_s=Spread.of([run.read_s for run in runs]),
        release_over_read=Spread.of([run.release_s / run.read_s for run in runs]),
        gateway_operations=round(runs[-1].gateway_operations * each, 1),
        aggregator_operations=round(runs[-1].aggregator_operations * each, 1),
        files=round(runs[-1].files * each, 1),
        gateway_peak_mib=Spread.of([run.gateway_mib for run in runs]),
        aggregator_peak_mib=Spread.of([run.aggregator_mib for run in runs]),
    )  # fmt: skip


def _run(options: RoundOptions) -> _Run:
    with scratch_store(options.store, options.folder) as (url, scratch):
        base = write_base(scratch / "base", options.num_parameters, seed=0)
        federation = create_federation(
            open_store(url), name="bench", base=base, origin="bench", method=options.method,
            rules={"quorum": options.num_contributors, "deadline_s": _TIMEOUT_S},
        )  # fmt: skip
        before = count_files(federation.store)
        aggregation = Aggregation(num_workers=options.num_workers, on_ray=options.on_ray, poll_s=0.1)
        maker = DeltaMaker(open_checkpoint(base).schema, seed=0)
        with gateway_process(url) as gateway, aggregator_process(url, aggregation) as aggregator:
            outcomes = _contribute(options, gateway, maker)
            times = _times(_await_release(aggregator), max(outcome.ended_s for outcome in outcomes))
            counts = [sum(server.counts().values()) for server in (gateway, aggregator)]
            peaks = [server.resident_mib(at_most=True) for server in (gateway, aggregator)]
        return _Run(
            upload_s=max(o.ended_s for o in outcomes) - min(o.began_s for o in outcomes),
            release_s=times[-1], screening_s=times[0], fusing_s=times[1] - times[0], publishing_s=times[2] - times[1],
            read_s=_read_all(federation, options.num_workers), gateway_operations=counts[0],
            aggregator_operations=counts[1], files=count_files(federation.store) - before,
            gateway_mib=peaks[0], aggregator_mib=peaks[1], delta_bytes=outcomes[0].sent_bytes,
        )  # fmt: skip


def _contribute(options: RoundOptions, gateway: Server, maker: DeltaMaker) -> list[Outcome]:
    crowd = Crowd(num_contributors=options.num_contributors)
    status = _open_round(gateway)
    with ThreadPoolExecutor(min(options.num_contributors, _MAX_CLIENTS)) as pool:
        visits = crowd.visits(crowd.contributors(), status.round.number)
        outcomes = list(pool.map(lambda v: make_visit(v, status, maker, gateway.address, crashes=False), visits))
    if bad := [outcome for outcome in outcomes if outcome.end is not End.ACKNOWLEDGED]:
        raise ColdfuseError(f"{len(bad)} contributions were not acknowledged, the first because {bad[0].reason}")
    return outcomes


def _open_round(gateway: Server) -> Status:
    end_s = time.monotonic() + _TIMEOUT_S
    with GatewayClient(gateway.address) as client:
        while not (status := client.status()).round.is_open:
            if time.monotonic() > end_s:
                raise ColdfuseError("the aggregator opens no round")
            time.sleep(0.05)
        return status


def _await_release(aggregator: Server) -> Sequence[Happening]:
    end_s = time.monotonic() + _TIMEOUT_S
    while True:
        happened = [happening for happening in aggregator.listen() if happening.round == 1]
        if any(happening.kind == "published" for happening in happened):
            return happened
        if any(h.kind == "abandoned" for h in happened) or time.monotonic() > end_s or not aggregator.is_alive():
            raise ColdfuseError(f"no release came: {[f'{h.kind} {h.reason}' for h in happened[-3:]]}")
        time.sleep(0.02)


def _times(happened: Sequence[Happening], last_s: float) -> list[float]:
    """Return the seconds from the last acknowledgement until the round was closed, fused and published."""
    found = {happening.kind: happening.at_s for happening in happened}
    return [found[kind] - last_s for kind in ("closed", "fused", "published")]


def _read_all(federation: Federation, num_threads: int) -> float:
    """Return the seconds that reading base and deltas takes."""
    contributions = [fused.contribution for fused in federation.latest().contributions]
    manifests = [federation.objects.get_value(ContributionManifest, digest) for digest in contributions]
    blobs = [*federation.release(0).files.values(), *(manifest.delta for manifest in manifests)]

    def read(part: Part) -> None:
        federation.objects.read_into(part.digest, memoryview(bytearray(part.size_bytes)), 0)

    began = time.perf_counter()
    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(read, [part for blob in blobs for part in blob.parts]))
    return time.perf_counter() - began
