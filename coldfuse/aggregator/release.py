"""Fuse a closed round's contributions into the next release: plan, run, and write its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy

from coldfuse import __version__
from coldfuse.aggregator.model import Base
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import Admission, ContributionManifest, in_fusing_order
from coldfuse.core.release import FusedContribution, OuterState, ReleaseManifest
from coldfuse.engine.execution import Executor
from coldfuse.engine.files import StoreSource, shared_store
from coldfuse.engine.fuse import FusedPart, fuse_shard, run_plan
from coldfuse.engine.job import Fusion, granularity_of, request_bytes
from coldfuse.engine.job import require_memory as require_task_memory
from coldfuse.engine.measure import measure_all
from coldfuse.engine.outer_state import next_age, state_header, state_name
from coldfuse.engine.plan import Inputs, Operands, Plan, Shard, all_shards, operands, plan_shards
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.fusion.recipe import Recipe
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.header import read_header
from coldfuse.tensors.model_digest import model_digest

_PARALLEL_READS = 16
"""Small objects that are read at a time."""


@dataclass(frozen=True)
class FusedRelease:
    """What a fusion made."""

    files: dict[str, Blob]
    model_digest: str
    outer: OuterState | None


def fuse_part(fusion: Fusion, shard: Shard) -> list[FusedPart]:
    """Fuse a shard's parts and store each under its digest. Running it twice stores the same objects."""
    if fusion.store_url is None:
        raise ValueError("the parts of a release go to a store")
    put = Objects(shared_store(fusion.store_url)).put
    return [
        FusedPart(
            index=fused.part.index,
            part=put_part(fused.data, put),
            blocks=fused.blocks,
            state=tuple(put_part(data, put) for data in fused.state),
        )
        for fused in fuse_shard(fusion, shard)
    ]


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
    recipe = read_recipe(federation.settings.method)
    weights = _weights(recipe, ordered)
    seed = f"{federation.settings.federation}/{round_number}"
    made = _run(federation, base, ordered, Fusion(
        store_url=federation.store.url,
        recipe=recipe,
        weights=weights,
        names=tuple(a.delta_digest for a in ordered),
        seed=seed,
        num_elements=sum(spec.num_elements for spec in base.schema.values() if spec.is_fused),
        age=_age(base, recipe),
        request_bytes=request_bytes(
            is_local=_is_local(federation), num_contributions=len(ordered), limit_bytes=executor.task_bytes
        ),
    ), executor)  # fmt: skip
    return ReleaseManifest(
        federation=federation.settings.federation,
        release=base.release.release + 1,
        parent=base.release.release,
        round=round_number,
        method=write_recipe(recipe),
        model_digest=made.model_digest,
        files=made.files,
        contributions=tuple(
            FusedContribution(**a.model_dump(exclude={"reason", "score"}), weight=w)
            for a, w in zip(ordered, weights, strict=True)
        ),
        outer=made.outer,
        created_at_s=now_s,
        software={"coldfuse": __version__, "numpy": numpy.__version__},
    )


def require_memory(federation: Federation, base: Base, executor: Executor) -> None:
    """Raise `UserInputError` if a part of this model cannot be fused in the memory that a worker may take."""
    recipe = read_recipe(federation.settings.method)
    plan = plan_shards(
        base.headers, Inputs(base=_base_operands(base), contributions=[]), granularity=granularity_of(recipe)
    )
    count = federation.settings.rules.quorum
    ahead = request_bytes(is_local=_is_local(federation), num_contributions=count, limit_bytes=executor.task_bytes)
    fusion = Fusion(
        store_url=federation.store.url, recipe=recipe, weights=(1.0,) * count, names=("",) * count, request_bytes=ahead
    )
    require_task_memory(fusion, plan, executor.task_bytes)


def _weights(recipe: Recipe, ordered: Sequence[Admission]) -> tuple[float, ...]:
    weights = tuple(recipe.combiner.weigh(admission.num_examples, admission.score) for admission in ordered)
    return weights if any(weights) else (1.0,) * len(ordered)


def _run(
    federation: Federation, base: Base, ordered: Sequence[Admission], fusion: Fusion, executor: Executor
) -> FusedRelease:
    """Make all passes over the contributions; return what the release holds."""
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        deltas = list(pool.map(lambda admission: _open_delta(federation, admission), ordered))
    inputs = Inputs(
        base=_base_operands(base),
        contributions=[operands([delta], is_delta=True) for delta in deltas],
        state=_open_state(federation, base, fusion.recipe) if fusion.age else (),
    )
    plan = plan_shards(base.headers, inputs, granularity=granularity_of(fusion.recipe))
    require_task_memory(fusion, plan, executor.task_bytes)
    fusion = measure_all(executor, all_shards(plan), fusion)
    made, blocks = run_plan(executor, fuse_part, fusion, plan)
    files = {
        path: Blob(parts=tuple(_part(made.get((path, i)), part) for i, part in enumerate(blob.parts)))
        for path, blob in base.release.files.items()
    }
    outer = _outer_state(federation, base, fusion, plan, made) if fusion.recipe.slots else None
    return FusedRelease(files, model_digest(base.schema, blocks), outer)


def _part(made: FusedPart | None, before: Part) -> Part:
    """Return a file's new part; its header stays."""
    return made.part if made is not None and made.part is not None else before


def _outer_state(
    federation: Federation, base: Base, fusion: Fusion, plan: Plan, made: dict[tuple[str, int], FusedPart]
) -> OuterState:
    """Gather the outers' new state, file by file."""
    files = {}
    for slot_index, slot in enumerate(fusion.recipe.slots):
        for file, header in base.headers.items():
            head = put_part(state_header(header, slot), federation.objects.put)
            indices = [part.index for shard in plan[file] for part in shard.parts if part.num_fused]
            parts = [made[file, index].state[slot_index] for index in indices]
            files[state_name(slot, file)] = Blob(parts=(head, *parts))
    return OuterState(age=fusion.age + 1, files=files)


def _open_state(federation: Federation, base: Base, recipe: Recipe) -> list[Operands]:
    files = base.release.outer.files if base.release.outer else {}
    return [
        operands([_open(federation, files[state_name(slot, file)], what=slot) for file in base.headers], is_delta=True)
        for slot in recipe.slots
    ]


def _age(base: Base, recipe: Recipe) -> int:
    outer = base.release.outer
    return next_age(outer.age, outer.files, recipe.slots) if outer else 0


def _base_operands(base: Base) -> Operands:
    sources = [StoreSource(base.release.files[path], header) for path, header in base.headers.items()]
    return operands(sources, is_delta=False)


def _open_delta(federation: Federation, admission: Admission) -> StoreSource:
    return _open(
        federation, federation.objects.get_value(ContributionManifest, admission.contribution).delta, what="delta"
    )


def _open(federation: Federation, blob: Blob, *, what: str) -> StoreSource:
    read = federation.objects.open(blob).read_into
    return StoreSource(blob, read_header(read, file_bytes=blob.size_bytes, what=what))


def _is_local(federation: Federation) -> bool:
    return "://" not in federation.store.url
