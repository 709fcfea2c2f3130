"""Fuse model folders and delta files on this machine, without a federation."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from coldfuse.aggregator.execution import Executor
from coldfuse.aggregator.files import LocalSource
from coldfuse.aggregator.fuse import FusedPart, fuse_shard, run_plan
from coldfuse.aggregator.inputs import Input, in_order_of_content, open_inputs
from coldfuse.aggregator.job import Fusion, reach_of, require_memory
from coldfuse.aggregator.local_state import LocalState, begin_state, open_state, write_state
from coldfuse.aggregator.measure import measure_all
from coldfuse.aggregator.plan import Inputs, Plan, Shard, all_shards, operands, plan_shards
from coldfuse.codec.header import Header
from coldfuse.codec.local_file import LocalFile
from coldfuse.codec.model_digest import model_digest
from coldfuse.codec.model_folder import ModelFolder, open_model_folder
from coldfuse.errors import UserInputError
from coldfuse.fusion.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class FolderFusion:
    """What is to be fused, and where to."""

    base: Path
    models: Sequence[Path]
    """Model folders, delta files or adapter folders; their order does not matter, unless the method says so."""
    out: Path
    recipe: Recipe
    weights: Sequence[float] | None = None
    """One a model; 1, or what follows from their order, if it is not given."""
    statistics: Sequence[Path] = ()
    """One file a model, if the method asks for them."""
    seed: str = "0"
    """What random masks depend on, beside the models."""
    device: str = "cpu"
    """Where matrices are worked on: cpu, cuda."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A fusion that is ready to run."""

    folder: ModelFolder
    fusion: Fusion
    plan: Plan
    state: LocalState
    inputs: tuple[Input, ...]
    """In fusing order."""


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A fusion that was run."""

    digest: str
    """The fused model's."""
    fusion: Fusion
    """With all that was measured."""


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


def fuse_folders(request: FolderFusion, executor: Executor) -> str:
    """Fuse models on a base into the folder `out`, and return the fused model's digest.

    `out` appears when it is whole. Raises `UserInputError` and its kin for what cannot be fused.
    """
    require_absent(request.out)
    return fuse_prepared(prepare(request, executor), request.out, executor).digest


def require_absent(out: Path) -> None:
    """Raise `UserInputError` if the folder is there already."""
    if out.exists():
        raise UserInputError(f"{out}: exists already; give a folder that does not")


def prepare(request: FolderFusion, executor: Executor) -> Prepared:
    """Open everything that is to be read, plan, and check that it fits into memory; nothing is written."""
    prepared = open_fusion(request)
    require_memory(prepared.fusion, prepared.plan, executor.task_bytes)
    return prepared


def fuse_prepared(prepared: Prepared, out: Path, executor: Executor) -> Fused:
    """Fuse what was prepared into the folder `out`, which appears when it is whole."""
    with staged(out) as staging:
        return _run(prepared, staging, executor)


def open_fusion(request: FolderFusion) -> Prepared:
    """Open everything that is to be read, and plan; nothing is written."""
    folder = open_model_folder(request.base)
    weights = _weights(request)
    inputs = in_order_of_content(open_inputs(folder, request.models, weights, request.recipe, request.statistics))
    state = open_state(folder, request.recipe.slots)
    sources = [LocalSource(folder.path / file, header) for file, header in folder.headers.items()]
    plan = plan_shards(
        folder.headers,
        Inputs(
            base=operands(sources, is_delta=False),
            contributions=[item.operands for item in inputs],
            statistics=[operands(item.statistics, is_delta=True) for item in inputs if item.statistics],
            state=state.operands,
        ),
        reach=reach_of(request.recipe),
    )
    fusion = Fusion(
        store_url=None,
        recipe=request.recipe,
        weights=tuple(item.weight for item in inputs),
        names=tuple(item.name for item in inputs),
        seed=request.seed,
        num_elements=sum(spec.num_elements for spec in folder.schema.values() if spec.is_fused),
        age=state.age,
        device=request.device,
    )
    return Prepared(folder=folder, fusion=fusion, plan=plan, state=state, inputs=tuple(inputs))


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that becomes `out` if all goes well; remove those that killed processes left there."""
    for old in out.parent.glob(f".{out.name}.fusing-*"):
        if not psutil.pid_exists(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    staging = out.parent / f".{out.name}.fusing-{os.getpid()}"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserInputError(f"{out}: cannot be created: {error.strerror}") from error
    try:
        yield staging
        os.replace(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _run(prepared: Prepared, out: Path, executor: Executor) -> Fused:
    folder, plan = prepared.folder, prepared.plan
    fusion = measure_all(executor, all_shards(plan), prepared.fusion)
    for file, header in folder.headers.items():
        _begin_file(folder.path / file, out / file, header)
    for file in folder.plain:
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder.path / file, out / file)
    starts = begin_state(out, folder, plan, fusion)
    _, blocks = run_plan(executor, fuse_part, FolderTask(out=out, fusion=fusion, state_starts=starts), plan)
    return Fused(digest=model_digest(folder.schema, blocks), fusion=fusion)


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


def _begin_file(source: Path, target: Path, header: Header) -> None:
    """Create a file of the final size that holds the header."""
    data = bytearray(header.size_bytes)
    with LocalFile(source) as file:
        file.read_into(memoryview(data), 0)
    with open(target, "wb") as file_out:
        file_out.write(data)
        file_out.truncate(header.file_bytes)


def _write(path: Path, start: int, data: bytearray) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data)
