"""Fuse a closed round's contributions into the next release: plan, run, and write its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy

from coldfuse import __version__
from coldfuse.aggregator.execution import Executor
from coldfuse.aggregator.files import StoreSource, shared_store
from coldfuse.aggregator.fuse import FusedPart, Fusion, block_elements, fuse_shard, run_plan
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.plan import Operands, Shard, operands, plan_shards
from coldfuse.codec.blobs import put_part
from coldfuse.codec.header import read_header
from coldfuse.codec.model_digest import model_digest
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission, ContributionManifest, in_fusing_order
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.fusion.methods import find_method
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects

_PARALLEL_READS = 16
"""Small objects that are read at a time."""


def fuse_part(fusion: Fusion, shard: Shard) -> FusedPart:
    """Fuse one part and store it under its digest. Running it twice stores the same object."""
    data, blocks = fuse_shard(fusion, shard)
    if fusion.store_url is None:
        raise ValueError("the parts of a release go to a store")
    return FusedPart(part=put_part(data, Objects(shared_store(fusion.store_url)).put), blocks=blocks)


def fuse_release(
    federation: Federation,
    base: Base,
    admissions: Sequence[Admission],
    executor: Executor,
    *,
    round_number: int,
    now_s: float,
) -> ReleaseManifest:
    """Fuse these contributions on the base, and return the manifest of the release to be published."""
    ordered = in_fusing_order(admissions)
    method = find_method(federation.settings.method)
    weights = tuple(method.weigh(admission) for admission in ordered)
    files, model = _run(federation, base, ordered, weights, executor)
    return ReleaseManifest(
        federation=federation.settings.federation,
        release=base.release.release + 1,
        parent=base.release.release,
        round=round_number,
        method=federation.settings.method,
        model_digest=model,
        files=files,
        contributions=tuple(
            FusedContribution(**a.model_dump(exclude={"reason"}), weight=w)
            for a, w in zip(ordered, weights, strict=True)
        ),
        created_at_s=now_s,
        software={"coldfuse": __version__, "numpy": numpy.__version__},
    )


def require_memory(federation: Federation, base: Base, executor: Executor) -> None:
    """Raise `UserInputError` if a part of this model cannot be fused in the memory that a worker may take."""
    plan = plan_shards(base.headers, base=_base_operands(base), contributions=[])
    block_elements(plan, is_local=_is_local(federation), task_bytes=executor.task_bytes)


def _run(
    federation: Federation, base: Base, ordered: Sequence[Admission], weights: tuple[float, ...], executor: Executor
) -> tuple[dict[str, Blob], str]:
    """Run all shards; return the fused model's files and its digest."""
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        deltas = list(pool.map(lambda admission: _open_delta(federation, admission), ordered))
    contributions = [operands([delta], is_delta=True) for delta in deltas]
    plan = plan_shards(base.headers, base=_base_operands(base), contributions=contributions)
    fusion = Fusion(
        store_url=federation.store.url,
        method=federation.settings.method,
        weights=weights,
        block_elements=block_elements(plan, is_local=_is_local(federation), task_bytes=executor.task_bytes),
    )
    made, blocks = run_plan(executor, fuse_part, fusion, plan)
    files = {
        path: Blob(parts=tuple(made.get((path, i)) or part for i, part in enumerate(blob.parts)))  # the header's stays
        for path, blob in base.release.files.items()
    }
    return files, model_digest(base.schema, blocks)


def _base_operands(base: Base) -> Operands:
    sources = [StoreSource(base.release.files[path], header) for path, header in base.headers.items()]
    return operands(sources, is_delta=False)


def _open_delta(federation: Federation, admission: Admission) -> StoreSource:
    delta = federation.objects.get_value(ContributionManifest, admission.contribution).delta
    read = federation.objects.open(delta).read_into
    return StoreSource(delta, read_header(read, file_bytes=delta.size_bytes, what="delta"))


def _is_local(federation: Federation) -> bool:
    return "://" not in federation.store.url
