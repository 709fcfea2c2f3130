"""Fuse model folders, delta files and adapters into a folder or file, without a federation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from coldfuse.adapters.recompress import Recompressed
from coldfuse.engine import fuse as engine
from coldfuse.engine.devices import require_device
from coldfuse.engine.execution import Executor
from coldfuse.engine.expansions import expanded, placed
from coldfuse.engine.fuse import DEFAULT_SEED, Fused, Prepared, Request, fuse, read_ahead
from coldfuse.engine.informed import open_inputs
from coldfuse.engine.job import require_memory
from coldfuse.engine.outputs import Output, write_adapter
from coldfuse.engine.passes import Progress
from coldfuse.engine.sinks import FolderSink
from coldfuse.engine.staging import staged
from coldfuse.engine.state import State, blaming, open_folder_state
from coldfuse.engine.tied import find_tied
from coldfuse.engine.untied import untied_base
from coldfuse.errors import UserInputError
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.settings import WEIGHT, Settings
from coldfuse.tensors.checkpoint import Checkpoint, open_model, require_unchanged
from coldfuse.tensors.dequantised import open_as_floats
from coldfuse.tensors.folders import Location


@dataclass(frozen=True, kw_only=True)
class FolderFusion:
    """What is to be fused, and where to."""

    base: Location
    """The base's model folder, or its one safetensors file."""
    models: Sequence[Location]
    """Model folders, delta files or adapter folders; their order does not matter, unless the method says so."""
    out: Path
    """The folder to create; a file for a delta, and for a base of one file if its name ends as one."""
    output: Output = field(default_factory=Output)
    """What is made of it."""
    recipe: Recipe
    """What is done with the models."""
    weights: Sequence[float] | None = None
    """Weight of each model; None: 1 each, or what follows from their order where the method says so."""
    settings: Sequence[Settings] = ()
    """Each model's own weights and parameters, in the order of the models; none if weights say all."""
    shared: Settings = field(default_factory=dict)
    """Weights and parameters where a model's own settings say nothing."""
    statistics: Sequence[Location] = ()
    """File of each model's statistics, if the method asks for them."""
    seed: str = DEFAULT_SEED
    """What random masks depend on, beside the models."""
    device: str = "cpu"
    """Name of the device on which whole matrices are worked on: cpu, cuda."""
    keeps_residual: bool = False
    """True to keep what rounding to bfloat16 or float16 drops for the next fusion, as a federation does. Where the
    method or the base keeps state between fusions, it is kept anyway."""
    with_code: bool = False
    """True to copy the code that the base's configuration names; it is never run."""
    untie: bool = False
    """True to take a base that ties its head to its embedding as one that stores both."""


@dataclass(frozen=True, kw_only=True)
class FolderFused:
    """What was made in a folder or file."""

    fused: Fused
    """The fusion as it was run."""
    adapter: Recompressed | None = None
    """What an adapter could hold of the delta, if one was made."""

    @property
    def digest(self) -> str:
        """Digest of the fused model's tensors, or of the delta's."""
        return self.fused.digest


def fuse_folders(request: FolderFusion, executor: Executor, *, progress: Progress | None = None) -> FolderFused:
    """Fuse models on a base into `request.out`, which appears when it is whole.

    Args:
        request: What is fused, how, and where to.
        executor: Runs the tasks: threads here, or Ray anywhere. The result is the same.
        progress: Called as passes begin and shards are done.

    Raises:
        UserInputError: An input or option cannot be used, or `out` exists already.
        SchemaMismatchError: A model does not fit the base.
        FusionError: The method refuses these models.
        CodecError: A file is not what it claims to be.
    """
    require_absent(request.out)
    prepared = prepare(request, executor)
    with expanded(prepared, request.out):
        return fuse_prepared(prepared, request.out, executor, progress=progress)


def require_absent(out: Path) -> None:
    """Raise `UserInputError` if `out` exists already: nothing is ever written over."""
    if out.exists():
        raise UserInputError(f"{out}: exists already; give a folder or file that does not")


def prepare(request: FolderFusion, executor: Executor) -> Prepared:
    """Open everything that is to be read, plan, and check that it fits into memory; nothing is written.

    Raises as `fuse_folders`.
    """
    prepared = read_ahead(open_fusion(request), executor)
    require_memory(prepared.fusion, prepared.plan, executor.task_bytes)
    return prepared


def open_fusion(request: FolderFusion) -> Prepared:
    """Open everything that is to be read, and plan; nothing is written. Raises as `fuse_folders`."""
    require_device(request.device)
    base = open_base(request)
    if request.output.kind == "adapter" and "" not in base.folders:
        raise UserInputError(
            f"{request.base}: an adapter is of one model, and here are several ({', '.join(sorted(base.folders))}); "
            "give the folder of one of them, or take --as delta"
        )
    tied = find_tied(base)
    inputs = open_inputs(base, request.models, _weights(request), request.recipe, request.statistics, tied=tied)
    if request.settings:
        inputs = [replace(item, settings=own) for item, own in zip(inputs, request.settings, strict=True)]
    state = open_folder_state(base, request.recipe, keeps_residual=request.keeps_residual)
    if base.is_one_file:
        _require_no_more_than_a_file(request, state)
    return engine.prepare(Request(
        base=base, inputs=placed(inputs, request.out), recipe=request.recipe, state=state, tied=tied,
        output=request.output, seed=request.seed, device=request.device, settings=request.shared,
    ))  # fmt: skip


def open_base(request: FolderFusion) -> Checkpoint:
    """Open the base as it is to be fused: FP8 as floats, with its code or head if asked. Raises as `fuse_folders`."""
    if request.untie and request.output.kind != "model":
        raise UserInputError(f"--untie is for models, and this makes one {request.output.kind}; leave it out")
    base = open_as_floats(open_model(request.base), is_written=request.output.kind == "model")
    base = base.with_code() if request.with_code else base
    return untied_base(base, what=str(request.base)) if request.untie else base


def fuse_prepared(
    prepared: Prepared, out: Path, executor: Executor, *, progress: Progress | None = None
) -> FolderFused:
    """Fuse what was prepared and `expanded` into `out`, which appears when it is whole. Raises as `fuse_folders`."""
    output = prepared.output
    is_file = prepared.base.is_one_file and output.kind == "model" and out.suffix == ".safetensors"
    made = next(iter(prepared.layout.heads)) if is_file else output.made
    with staged(out, made=made) as staging, blaming(prepared.state):
        fused = fuse(prepared, FolderSink(staging, prepared.base), executor, progress=progress)
        require_unchanged([file.file for file in prepared.sources])  # else parts of two models might be mixed
        adapter = None
        if output.kind == "adapter":
            adapter = write_adapter(staging, output, prepared.base, prepared.tied)
    return FolderFused(fused=fused, adapter=adapter)


def _require_no_more_than_a_file(request: FolderFusion, state: State) -> None:
    """Refuse what a checkpoint of one file has no place for."""
    if state.slots and request.output.kind == "model":
        raise UserInputError(
            f"{request.base}: a checkpoint of one file has no place for what is kept between fusions "
            f"({', '.join(state.slots)}); put it into a folder as model.safetensors, beside a config.json"
        )
    if request.output.shard_bytes is not None and request.out.suffix == ".safetensors":
        raise UserInputError(f"--shard-size cuts a model into several files; give a folder instead of {request.out}")


def _weights(request: FolderFusion) -> Sequence[float]:
    combiner, count = request.recipe.combiner, len(request.models)
    positional = combiner.positional_weights(count)
    sets_weights = any(WEIGHT in settings for settings in (*request.settings, request.shared))
    if sets_weights and request.weights is not None:
        raise UserInputError("weights are given twice: leave --weights out, or the weights in the file")
    if request.weights is None and not sets_weights:
        if combiner.needs_weights:
            raise UserInputError("this method weighs the models: give --weights, one number a model")
        return positional or [1.0] * count
    if positional is not None:
        raise UserInputError("this method takes its weights from the order of the models; leave --weights out")
    if not combiner.is_weighted:
        raise UserInputError(
            "this method does not weigh the models; leave their weights out, or take one that weighs, such as "
            "weighted-mean or --variant mergekit of ties and its relatives"
        )
    return request.weights or [1.0] * count
