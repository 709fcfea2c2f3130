"""Fuse a closed round's contributions into the next release: plan, run, and write its manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy

from coldfuse import __version__
from coldfuse.aggregator.execution import Executor
from coldfuse.aggregator.files import StoreRef, shared_store
from coldfuse.aggregator.fuse import Fusion, block_elements, fuse_shard
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.plan import Shard, operands, plan_shards
from coldfuse.codec.blobs import put_part
from coldfuse.codec.header import Header, read_header
from coldfuse.codec.model_digest import model_digest
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Admission, ContributionManifest, in_fusing_order
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.fusion.methods import find_method
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects


@dataclass(frozen=True, kw_only=True)
class StoreFusion:
    """A fusion whose parts go to a store."""

    store_url: str
    fusion: Fusion


@dataclass(frozen=True, kw_only=True)
class FusedPart:
    """What a task made: where its part lies, and the digests of the tensors in it."""

    part: Part
    blocks: Mapping[str, Sequence[str]]


def fuse_part(job: StoreFusion, shard: Shard) -> FusedPart:
    """Fuse one part, store it under its digest, and say what it is. Running it twice stores the same object."""
    data, blocks = fuse_shard(job.fusion, shard)
    part = put_part(data, Objects(shared_store(job.store_url)).put)
    return FusedPart(part=part, blocks=blocks)


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


def _run(
    federation: Federation, base: Base, ordered: Sequence[Admission], weights: tuple[float, ...], executor: Executor
) -> tuple[dict[str, Blob], str]:
    """Run all shards; return the fused model's files and its digest."""
    url = federation.store.url
    tensor_files = list(base.headers)
    refs = [StoreRef(url, base.release.files[path]) for path in tensor_files]
    contributions = []
    for admission in ordered:
        delta, header = _open_delta(federation, admission)
        contributions.append(operands([header], first_file=len(refs), is_delta=True))
        refs.append(StoreRef(url, delta))
    theta = operands([base.headers[path] for path in tensor_files], first_file=0, is_delta=False)
    shards = plan_shards(base.headers, base=theta, contributions=contributions)
    todo = [shard for file in shards.values() for shard in file if shard.pieces]
    fusion = Fusion(
        files=tuple(refs),
        method=federation.settings.method,
        weights=weights,
        block_elements=block_elements(refs, todo, task_bytes=executor.task_bytes),
    )
    made: dict[tuple[str, int], FusedPart] = {}
    for index, fused in executor.run(fuse_part, StoreFusion(store_url=url, fusion=fusion), todo):
        made[todo[index].file, todo[index].index] = fused
    files = dict(base.release.files) | {
        path: _replace_parts(base.release.files[path], path, made) for path in tensor_files
    }
    return files, _digest(base, shards, made)


def _open_delta(federation: Federation, admission: Admission) -> tuple[Blob, Header]:
    manifest = federation.objects.get_value(ContributionManifest, admission.contribution)
    reader = federation.objects.open(manifest.delta)
    return manifest.delta, read_header(reader.read_into, file_bytes=manifest.delta.size_bytes, what="delta")


def _replace_parts(blob: Blob, path: str, made: Mapping[tuple[str, int], FusedPart]) -> Blob:
    """The header's part stays the base's."""
    return Blob(parts=tuple(made[path, i].part if (path, i) in made else part for i, part in enumerate(blob.parts)))


def _digest(base: Base, shards: Mapping[str, Sequence[Shard]], made: Mapping[tuple[str, int], FusedPart]) -> str:
    blocks: dict[str, list[str]] = defaultdict(list)
    for file in shards.values():
        for shard in file:
            if shard.pieces:
                for name, digests in made[shard.file, shard.index].blocks.items():
                    blocks[name] += digests
    return model_digest(base.schema, defaultdict(list, blocks))
