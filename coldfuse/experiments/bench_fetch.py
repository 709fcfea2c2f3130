"""How fast a release is fetched, through a gateway and straight from its store, beside the bounds of `bench_transfer`.

A fetch hashes every byte as it comes, writes it, syncs it, and reads the model again for its digest.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.consumer import ReleaseSource, fetch
from coldfuse.core.schema import ITEM_BYTES
from coldfuse.errors import TransportError
from coldfuse.experiments.bench_fuse import Spread
from coldfuse.experiments.bench_models import WEIGHTS, make_models, square
from coldfuse.experiments.bench_transfer import MIB, Boto3, bring_bare, copy_files, scratch_store
from coldfuse.gateway import PARALLEL, StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import open_federation
from coldfuse.simulation.servers import gateway_process
from coldfuse.storage import open_store
from coldfuse.transport.client import GatewayClient


@dataclass(frozen=True, kw_only=True)
class FetchFigures:
    """What was measured for one size."""

    size_mib: int
    store: str
    num_runs: int
    bare_mib_s: Spread
    """Bare gRPC streams of the same parts, from memory, dropped as they come."""
    copy_mib_s: Spread
    """Copying the model's files, synced."""
    gateway_mib_s: Spread
    """`fetch` through a gateway into an empty folder."""
    straight_mib_s: Spread
    """`fetch` straight from the store into an empty folder."""
    gateway_ratio: Spread
    """Rate through the gateway over that of the bare streams."""
    straight_ratio: Spread
    """Rate straight from the store over the bound's: copying files, or boto3 on S3."""
    boto3_mib_s: Spread | None
    """boto3's `download_file` of the same bytes from the same S3 server; None where the store is a folder."""
    gateway_peak_rss_mib: Spread
    """The gateway's memory at its most."""
    store_operations: float
    """Store operations of the gateway, a part."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    bare: float
    copied: float
    gateway: float
    straight: float
    boto3: float
    peak_mib: float
    operations: float


def bench_fetch(
    sizes_mib: Sequence[int], *, num_runs: int = 5, folder: Path | None = None, store: str | None = None
) -> Iterator[FetchFigures]:
    """Measure one size after the other.

    Args:
        sizes_mib: Sizes of the model.
        num_runs: Counted runs, in each of which everything takes its turn; one more comes first and warms up.
        folder: Where models and the store lie; None: the system's temporary folder.
        store: A `s3://` url for a store there; None: in the folder.
    """
    for size_mib in sizes_mib:
        with scratch_store(store, folder) as (url, scratch):
            models = make_models(
                scratch / "models", square(size_mib * MIB // ITEM_BYTES["F32"]), dtype="F32", num_models=0
            )
            federation = create_federation(
                open_store(url), name="bench", base=models.base, origin="bench", method="mean", rules={"quorum": 1}
            )
            sizes = [part.size_bytes for blob in federation.latest().files.values() for part in blob.parts]
            runs = [_run(url, scratch, models.base / WEIGHTS, sizes) for _ in range(num_runs + 1)][1:]
        is_s3 = store is not None
        yield FetchFigures(
            size_mib=size_mib, store=store or "folder", num_runs=num_runs,
            bare_mib_s=Spread.of([run.bare for run in runs]), copy_mib_s=Spread.of([run.copied for run in runs]),
            gateway_mib_s=Spread.of([run.gateway for run in runs]),
            straight_mib_s=Spread.of([run.straight for run in runs]),
            gateway_ratio=Spread.of([run.gateway / run.bare for run in runs]),
            straight_ratio=Spread.of([run.straight / (run.boto3 if is_s3 else run.copied) for run in runs]),
            boto3_mib_s=Spread.of([run.boto3 for run in runs]) if is_s3 else None,
            gateway_peak_rss_mib=Spread.of([run.peak_mib for run in runs]),
            store_operations=round(runs[-1].operations / len(sizes), 1),
        )  # fmt: skip


def _run(url: str, scratch: Path, weights: Path, sizes: Sequence[int]) -> _Run:
    bare = bring_bare(sizes, PARALLEL)
    copied = copy_files([weights], scratch)
    with gateway_process(url) as gateway, GatewayClient(gateway.address) as client:
        client.status()
        before = sum(gateway.counts().values())
        rate = _fetch_rate(client, scratch / "fetched", sum(sizes))
        operations, peak_mib = sum(gateway.counts().values()) - before, gateway.resident_mib(at_most=True)
    with StoreGateway(open_federation(open_store(url))) as straight:
        straight_rate = _fetch_rate(straight, scratch / "fetched", sum(sizes))
    return _Run(
        bare=bare, copied=copied, gateway=rate, straight=straight_rate, peak_mib=peak_mib, operations=operations,
        boto3=Boto3(url).bring(weights, scratch / "boto3") if url.startswith("s3://") else 0.0,
    )  # fmt: skip


def _fetch_rate(source: ReleaseSource, out: Path, num_bytes: int) -> float:
    began = time.perf_counter()
    fetched = fetch(source, out)
    took_s = time.perf_counter() - began
    shutil.rmtree(out)
    if fetched.downloaded_bytes != num_bytes:
        raise TransportError(f"the fetch brought {fetched.downloaded_bytes:,} of {num_bytes:,} bytes; measure again")
    return num_bytes / MIB / took_s
