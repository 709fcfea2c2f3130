"""How fast a gateway takes uploads, beside a bare gRPC stream, and boto3 where the store is on S3 (`bench_transfer`).

All run in turns, with as many streams at a time. A store that keeps nothing of a part shows what the way itself costs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coldfuse.core.blob import Blob
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import encode, sha256
from coldfuse.experiments.bench_fuse import Spread
from coldfuse.experiments.bench_transfer import MIB, Boto3, Source, scratch_store, send_bare
from coldfuse.registry.creation import create
from coldfuse.simulation.counting import CountedStore
from coldfuse.simulation.servers import gateway_process
from coldfuse.storage import ObjectInfo, ObjectStore, ObjectWriter, open_store
from coldfuse.transport.channel import MAX_CHUNK_BYTES
from coldfuse.transport.client import GatewayClient

NULL = "null"
"""The store that keeps nothing of a part."""

_DISK_PARTS = 8


@dataclass(frozen=True, kw_only=True)
class UploadFigures:
    """What was measured for one size."""

    size_mib: int
    store: str
    num_streams: int
    num_runs: int
    bare_mib_s: Spread
    """gRPC frames of 1 MiB to a process that drops them."""
    upload_mib_s: Spread
    """`GatewayClient.upload` to a gateway, until the last part is acknowledged."""
    ratio: Spread
    """Rate of the upload over that of the bare stream, each pair measured one after the other."""
    boto3_mib_s: Spread | None
    """boto3's `upload_fileobj` to the same S3 server; None where the store is a folder."""
    boto3_ratio: Spread | None
    """Rate of the upload over that of boto3."""
    store_operations: float
    """Store operations of the gateway, a part."""
    gateway_start_rss_mib: Spread
    """The gateway's memory before the first byte came."""
    gateway_peak_rss_mib: Spread
    """The gateway's memory at its most."""
    disk_mib_s: Spread | None
    """One thread that writes parts to the same folder and syncs each; None where the store is no folder."""


def bench_upload(
    sizes_mib: Sequence[int],
    *,
    num_runs: int = 5,
    parallel: int = 4,
    folder: Path | None = None,
    store: str | None = None,
) -> Iterator[UploadFigures]:
    """Measure one size after the other.

    Args:
        sizes_mib: Sizes of the file that is uploaded.
        num_runs: Counted pairs of a bare stream and an upload; one more comes first and warms up.
        parallel: Parts on their way at once.
        folder: Where the gateway's store lies; None: the system's temporary folder.
        store: A `s3://` url for a store there, or `null` for one that keeps nothing of a part; None: in the folder.
    """
    for size_mib in sizes_mib:
        source = Source.make(size_mib * MIB)
        runs = [_run(source, parallel, folder, store) for _ in range(num_runs + 1)][1:]
        is_s3, is_folder = store not in (None, NULL), store is None
        yield UploadFigures(
            size_mib=size_mib, store=store or "folder", num_streams=parallel, num_runs=num_runs,
            bare_mib_s=Spread.of([run.bare for run in runs]),
            upload_mib_s=Spread.of([run.upload for run in runs]),
            ratio=Spread.of([run.upload / run.bare for run in runs]),
            boto3_mib_s=Spread.of([run.boto3 for run in runs]) if is_s3 else None,
            boto3_ratio=Spread.of([run.upload / run.boto3 for run in runs]) if is_s3 else None,
            store_operations=round(runs[-1].operations / len(source.blob.parts), 1),
            gateway_start_rss_mib=Spread.of([run.start_mib for run in runs]),
            gateway_peak_rss_mib=Spread.of([run.peak_mib for run in runs]),
            disk_mib_s=Spread.of([run.disk for run in runs]) if is_folder else None,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Run:
    bare: float
    upload: float
    boto3: float
    disk: float
    start_mib: float
    peak_mib: float
    operations: int


def _run(source: Source, parallel: int, folder: Path | None, store: str | None) -> _Run:
    with scratch_store(None if store == NULL else store, folder) as (url, scratch):
        bare = send_bare(source, parallel)
        _create(open_store(url))
        with gateway_process(url, wrap=DroppingStore if store == NULL else None) as gateway:
            with GatewayClient(gateway.address) as client:
                client.status()
                start_mib, before = gateway.resident_mib(), sum(gateway.counts().values())
                began = time.perf_counter()
                report = client.upload(source.blob, source.read_range, parallel=parallel)
                took_s = time.perf_counter() - began
            operations = sum(gateway.counts().values()) - before
            peak_mib = gateway.resident_mib(at_most=True)
        return _Run(
            bare=bare, upload=source.rate("the gateway", report.sent_bytes, took_s), operations=operations,
            boto3=Boto3(url).send(source) if url.startswith("s3://") else 0.0,
            disk=_disk_rate(scratch, source) if store is None else 0.0, start_mib=start_mib, peak_mib=peak_mib,
        )  # fmt: skip


def _create(store: ObjectStore) -> None:
    """Create a federation on a base without tensors: nothing but uploads is measured."""
    name = sha256(b"bench")
    base = ReleaseManifest(
        federation=name, release=0, parent=None, round=0, method="base", model_digest=name,
        files={"config.json": Blob(parts=())}, created_at_s=0.0,
    )  # fmt: skip
    settings = FederationSettings(
        federation=name, name="bench", rules=RoundRules(), method="mean", created_at_s=0.0, base="none",
        release_zero=sha256(encode(base)),
    )  # fmt: skip
    create(store, settings, base)


def _disk_rate(folder: Path, source: Source) -> float:
    began = time.perf_counter()
    for number in range(_DISK_PARTS):
        with (folder / f"raw-{number}").open("wb", buffering=0) as file:
            for start in range(0, len(source.block), MAX_CHUNK_BYTES):
                file.write(source.block[start : start + MAX_CHUNK_BYTES])
            os.fsync(file.fileno())
    return _DISK_PARTS * len(source.block) / MIB / (time.perf_counter() - began)


class DroppingStore(CountedStore):
    """A store that keeps nothing of what is written piece by piece, but for its size."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.sizes: dict[str, int] = {}
        """Sizes of what was dropped, by key."""

    def head(self, key: str) -> ObjectInfo | None:
        """Return the size of what was dropped, or ask the store."""
        if key in self.sizes:
            return ObjectInfo(size_bytes=self.sizes[key], etag="dropped")
        return super().head(key)

    def open_writer(self, key: str) -> ObjectWriter:
        """Return a writer that counts bytes."""
        return _Dropped(self, key)


class _Dropped(ObjectWriter):
    def __init__(self, store: DroppingStore, key: str) -> None:
        self._store, self._key, self._size = store, key, 0

    def write(self, data: bytes | memoryview) -> None:
        self._size += len(data)

    def commit(self) -> bool:
        self._store.sizes[self._key] = self._size
        return True

    def abort(self) -> None:
        """Nothing was kept."""

    def __enter__(self) -> Self:
        return self
