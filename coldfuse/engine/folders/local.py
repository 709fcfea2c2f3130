"""Fuse model folders and delta files, without a federation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from coldfuse.adapters.recompress import Recompressed
from coldfuse.engine.devices import require_device
from coldfuse.engine.execution import Executor
from coldfuse.engine.folders.contents import FileSource
from coldfuse.engine.folders.inputs import Input, content_digests, in_order_of_content, open_inputs
from coldfuse.engine.folders.local_state import (
    LocalState,
    begin_state,
    check_outers,
    end_state,
    open_state,
    write_state,
)
from coldfuse.engine.folders.outputs import Layout, Output, begin_files, layout_for, write_adapter
from coldfuse.engine.folders.remote_folder import (
    Folder,
    Location,
    check_all_unchanged,
    files_of,
    open_folder,
)
from coldfuse.engine.folders.staging import staged
from coldfuse.engine.folders.tied import Tied, find_tied
from coldfuse.engine.fuse import FusedPart, fuse_shard, run_plan
from coldfuse.engine.job import Fusion, granularity_of, request_bytes, require_memory
from coldfuse.engine.measure import measure_all
from coldfuse.engine.plan import Inputs, Plan, Shard, copied_shards, measured_shards, operands, plan_shards
from coldfuse.engine.remote_files import KeySource
from coldfuse.errors import UserInputError
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.model_digest import model_digest


@dataclass(frozen=True, kw_only=True)
class FolderFusion:
    """What is to be fused, and where to."""

    base: Location
    models: Sequence[Location]
    """Model folders, delta files or adapter folders; their order does not matter, unless the method says so."""
    out: Path
    """The folder or, for a delta, the file to create."""
    output: Output = field(default_factory=Output)
    base_name: str | None = None
    """What an adapter calls its base, such as a hub id; where it lies, if not given."""
    recipe: Recipe
    weights: Sequence[float] | None = None
    """One a model; 1, or what follows from their order, if it is not given."""
    statistics: Sequence[Location] = ()
    """One file a model, if the method asks for them."""
    seed: str = "0"
    """What random masks depend on, beside the models."""
    device: str = "cpu"
    """Where matrices are worked on, and blocks where methods allow it: cpu, cuda."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A fusion that is ready to run."""

    folder: Folder
    """The base."""
    fusion: Fusion
    plan: Plan
    """Of what is made."""
    measured: Sequence[Shard]
    """What is measured: the base's own files, however the result is cut, so that sums do not depend on that."""
    tied: Tied
    """The base's tensors that are copies, and of which: neither measured nor counted."""
    output: Output
    layout: Layout
    base_name: str
    """As the user gave it."""
    state: LocalState
    inputs: tuple[Input, ...]
    """In fusing order."""

    @property
    def sources(self) -> list[FileSource]:
        """All files that are read."""
        return [*files_of(self.folder).values(), *(s for item in self.inputs for s in (*item.files, *item.statistics))]


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A fusion that was run."""

    digest: str
    """Of the fused model's tensors, or the delta's."""
    fusion: Fusion
    """With all that was measured."""
    adapter: Recompressed | None = None
    """What an adapter could hold of the delta, if one was made."""


@dataclass(frozen=True, kw_only=True)
class FolderTask:
    """What the tasks of a fusion into a folder share."""

    out: Path
    fusion: Fusion
    state_starts: Mapping[str, Mapping[int, int]]
    """Where each part's numbers begin in each state file."""


def fuse_part(job: FolderTask, shard: Shard) -> list[FusedPart]:
    """Fuse a shard's parts and write each at its place."""
    made = []
    for fused in fuse_shard(job.fusion, shard):
        _write(job.out / shard.file, fused.part.start, fused.data)
        write_state(job.out, shard.file, job.state_starts, fused)
        made.append(FusedPart(index=fused.part.index, part=None, blocks=fused.blocks))
    return made


def compare_shard(fusion: Fusion, shard: Shard) -> None:
    """Check that the models agree with the base on tensors that are copied, where no copy is made."""
    for _ in fuse_shard(fusion, shard):
        pass


def fuse_folders(request: FolderFusion, executor: Executor) -> str:
    """Fuse models on a base into the folder `out`, and return the fused model's digest.

    `out` appears when it is whole. Raises `UserInputError` and its kin for what cannot be fused.
    """
    require_absent(request.out)
    return fuse_prepared(prepare(request, executor), request.out, executor).digest


def require_absent(out: Path) -> None:
    """Raise `UserInputError` if it is there already."""
    if out.exists():
        raise UserInputError(f"{out}: exists already; give a folder or file that does not")


def prepare(request: FolderFusion, executor: Executor) -> Prepared:
    """Open everything that is to be read, plan, and check that it fits into memory; nothing is written."""
    prepared = read_ahead(open_fusion(request), executor)
    require_memory(prepared.fusion, prepared.plan, executor.task_bytes)
    return prepared


def read_ahead(prepared: Prepared, executor: Executor) -> Prepared:
    """Let objects in S3 be read ahead as far as the executor's memory allows."""
    if not any(isinstance(source, KeySource) for source in prepared.sources):
        return prepared
    count, limit = prepared.fusion.num_contributions, executor.task_bytes
    ahead = request_bytes(is_local=False, num_contributions=count, limit_bytes=limit)
    return replace(prepared, fusion=replace(prepared.fusion, request_bytes=ahead))


def fuse_prepared(prepared: Prepared, out: Path, executor: Executor) -> Fused:
    """Fuse what was prepared into `out`, which appears when it is whole."""
    with staged(out, made=prepared.output.made) as staging:
        return _run(prepared, staging, executor)


def open_fusion(request: FolderFusion) -> Prepared:
    """Open everything that is to be read, and plan; nothing is written."""
    require_device(request.device)
    folder = open_folder(request.base)
    weights = _weights(request)
    tied = find_tied(folder)
    opened = open_inputs(folder, request.models, weights, request.recipe, request.statistics, tied=tied)
    inputs = in_order_of_content(opened)
    state = open_state(folder, request.recipe.slots)
    check_outers(folder, request.recipe)
    read = Inputs(
        base=operands(files_of(folder).values(), is_delta=False),
        contributions=[item.operands for item in inputs],
        statistics=[item.statistics_operands for item in inputs if item.statistics],
        state=state.operands,
        tied=tied,
    )
    own = plan_shards(folder.headers, read, granularity=granularity_of(request.recipe))
    layout = _layout(request, folder, read)
    is_own = layout.headers == folder.headers
    plan = own if is_own else plan_shards(layout.headers, read, granularity=granularity_of(request.recipe))
    fusion = Fusion(
        store_url=None,
        recipe=request.recipe,
        weights=tuple(item.weight for item in inputs),
        names=content_digests(inputs) if request.recipe.is_random else (),
        seed=request.seed,
        num_elements=sum(s.num_elements for name, s in folder.schema.items() if s.is_fused and name not in tied),
        age=state.age,
        device=request.device,
        delta_dtype=request.output.delta_dtype,
    )
    return Prepared(
        folder=folder, fusion=fusion, plan=plan, measured=measured_shards(own), tied=tied, output=request.output,
        layout=layout, base_name=request.base_name or str(request.base), state=state, inputs=tuple(inputs),
    )  # fmt: skip


def _run(prepared: Prepared, out: Path, executor: Executor) -> Fused:
    folder, plan, layout = prepared.folder, prepared.plan, prepared.layout
    if prepared.output.kind != "model" and (copied := copied_shards(prepared.measured)):
        list(executor.run(compare_shard, prepared.fusion, copied))
    fusion = measure_all(executor, prepared.measured, prepared.fusion)
    begin_files(out, layout, folder)
    starts = begin_state(out, layout.headers, plan, fusion)
    _, blocks = run_plan(executor, fuse_part, FolderTask(out=out, fusion=fusion, state_starts=starts), plan)
    check_all_unchanged(prepared.sources)
    is_adapter = prepared.output.kind == "adapter"
    adapter = write_adapter(out, prepared.output, folder, prepared.base_name) if is_adapter else None
    digest = model_digest(layout.schema, blocks)
    end_state(out, fusion, digest)
    return Fused(digest=digest, fusion=fusion, adapter=adapter)


def _layout(request: FolderFusion, folder: Folder, read: Inputs) -> Layout:
    if request.output.kind != "model" and request.recipe.slots:
        kept = ", ".join(request.recipe.slots)
        raise UserInputError(f"this method keeps {kept} beside the model, which {request.output.kind}s cannot hold")
    fused = {name: read.tied.get(name, name) for name, spec in folder.schema.items() if spec.is_fused}
    if request.output.kind == "adapter":  # merged into a model that ties, factors for both would be added twice
        fused = {name: first for name, first in fused.items() if name == first}
    changed = [name for name, first in fused.items() if any(first in item.tensors for item in read.contributions)]
    return layout_for(request.output, folder, changed, folder.digest)


def _weights(request: FolderFusion) -> Sequence[float]:
    combiner, count = request.recipe.combiner, len(request.models)
    positional = combiner.positional_weights(count)
    if request.weights is None:
        if combiner.needs_weights:
            raise UserInputError("this method weighs the models: give --weights, one number a model")
        return positional or [1.0] * count
    if positional is not None:
        raise UserInputError("this method takes its weights from the order of the models; leave --weights out")
    if not combiner.is_weighted:
        raise UserInputError("this method does not weigh the models; leave --weights out, or take weighted-mean")
    return request.weights


def _write(path: Path, start: int, data: memoryview) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data)
