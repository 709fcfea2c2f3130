"""Fuse: the one way from contributions on a base to a fused model, for a round and for `coldfuse fuse` alike.

`prepare` plans; `fuse` runs the passes and hands every part to a sink as it is made (`sinks`: a store's objects, or
files in a folder). The same deltas, base and recipe give the same bytes, whoever asks, on threads or on Ray.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from coldfuse.engine.cutting import CutNorms
from coldfuse.engine.execution import Executor
from coldfuse.engine.inputs import Input, content_digests, in_fusing_order
from coldfuse.engine.job import Fusion, granularity_of, holding_factors, request_bytes, require_memory
from coldfuse.engine.low_rank import LowRankPlan, find_low_rank, require_products
from coldfuse.engine.measuring import measure_all, run_pass
from coldfuse.engine.operands import operands
from coldfuse.engine.outputs import Layout, Output, layout_for
from coldfuse.engine.passes import Pass, Progress, plan_passes
from coldfuse.engine.plan import Inputs, Plan, Shard, all_shards, plan_shards
from coldfuse.engine.settings import resolve
from coldfuse.engine.shard import fuse_shard
from coldfuse.engine.shares import shares_of, shortened
from coldfuse.engine.sinks import Sink, Writer, Written
from coldfuse.engine.state import State, sources_of
from coldfuse.engine.tied import Tied
from coldfuse.errors import UserInputError
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.settings import Settings
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.files import BlobFile
from coldfuse.tensors.folders import is_remote
from coldfuse.tensors.model_digest import model_digest
from coldfuse.tensors.tensor_file import TensorFile

DEFAULT_SEED = "0"
"""What random masks depend on beside the contribution, unless somebody asks for others. A delta names its base in its
own bytes, so that its masks differ from round to round."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A fusion that is ready to run."""

    base: Checkpoint
    inputs: tuple[Input, ...]
    """The contributions, in fusing order."""
    fusion: Fusion
    """What all tasks share; nothing is measured yet."""
    plan: Plan
    """The shards of what is made."""
    measured: Sequence[Shard]
    """The shards of what is measured: the base's own files, however the result is cut, so that sums do not depend on
    that."""
    tied: Tied
    """The tensor that each copy among the base's tensors is a copy of; copies are neither measured nor counted."""
    state: State
    """What is kept between fusions."""
    output: Output
    """What is made."""
    layout: Layout
    """The files that are written."""

    @cached_property
    def passes(self) -> list[Pass]:
        """All passes in order, the last of which makes the parts."""
        return plan_passes(
            self.fusion, made=all_shards(self.plan), measured=self.measured, compares=self.output.kind != "model"
        )

    @property
    def sources(self) -> list[TensorFile]:
        """All files that are read."""
        return sources_of_all(self.base, self.inputs, self.state)


@dataclass(frozen=True, kw_only=True)
class Fused:
    """A fusion that was run."""

    digest: str
    """Digest of the fused model's tensors, or of the delta's."""
    fusion: Fusion
    """The fusion with all that was measured."""
    parts: Mapping[tuple[str, int], tuple[Written, ...]]
    """Where each part and its state lie, by file and index, if they went to a store."""
    num_moved: int
    """Number of elements whose bytes differ from the base's."""
    blocks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The block digests of each tensor, of which its digest is made."""
    cuts: Mapping[str, CutNorms] = field(default_factory=dict)
    """What was lost of each module of a shared LoRA as it was cut to its rank."""

    @property
    def moved(self) -> float:
        """The fraction of elements whose bytes differ from the base's."""
        return self.num_moved / max(self.fusion.num_written, 1)


@dataclass(frozen=True, kw_only=True)
class FusedPart:
    """What a task made of a part."""

    index: int
    """Index of the part in its file."""
    parts: tuple[Written, ...]
    """Where the part and then the state of each slot lie, if they went to a store."""
    blocks: Mapping[str, Sequence[str]]
    """The block digests of each tensor in the part, or of the piece of it that is there."""
    num_moved: int
    """Number of elements whose bytes differ from the base's."""
    cuts: Mapping[str, CutNorms]
    """What was lost of modules of a shared LoRA."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be fused, opened and checked."""

    base: Checkpoint
    """The base, θ_t."""
    inputs: Sequence[Input]
    """The contributions, checked against the base, in any order."""
    recipe: Recipe
    """What is done with the contributions."""
    state: State
    """What is kept between fusions."""
    tied: Tied
    """The tensor that each copy among the base's tensors is a copy of, as `find_tied` finds them."""
    output: Output = field(default_factory=Output)
    """What is made."""
    seed: str = DEFAULT_SEED
    """What random masks depend on beside the contributions."""
    device: str = "cpu"
    """Name of the device on which whole matrices are worked on."""
    settings: Settings = field(default_factory=dict)
    """Weights and parameters where an input's own settings say nothing."""


def prepare(request: Request) -> Prepared:
    """Plan a fusion.

    Inputs are put in order by what they hold: samples of models are read, and whole deltas; random masks ask for the
    digest of whole models, too.

    Args:
        request: What is fused, opened and checked.

    Returns:
        The plan, which `fuse` runs.

    Raises:
        UserInputError: The output cannot hold what the recipe keeps, or a setting cannot be used.
    """
    base, output, tied, state = request.base, request.output, request.tied, request.state
    ordered = in_fusing_order(request.inputs)
    read = Inputs(
        base=operands(base.files.values(), is_delta=False),
        contributions=[item.operands for item in ordered],
        statistics=[item.statistics_operands for item in ordered] if any(item.statistics for item in ordered) else [],
        state=state.operands,
        tied=tied,
    )
    products = LowRankPlan(find_low_rank(base), read)
    require_products(request.recipe, products.modules, output)
    written = {name: spec for name, spec in base.schema.items() if spec.is_fused and name not in tied}
    fused = products.in_place_of_factors(written)
    resolved = resolve(shortened(request.recipe, ordered), ordered, request.settings, list(fused))
    recipe = resolved.recipe
    own = plan_shards(base.headers, read, granularity=granularity_of(recipe))
    layout = _layout(base, read, recipe, output)
    is_own = layout.headers == base.headers
    fusion = Fusion(
        recipe=recipe,
        weights=resolved.weights,
        tensor_weights=resolved.tensor_weights,
        own={**resolved.own, **shares_of(ordered)},
        names=content_digests(ordered) if recipe.is_random else (),
        seed=request.seed,
        num_elements=sum(spec.num_elements for spec in fused.values()),
        num_written=sum(spec.num_elements for spec in written.values()),
        slots=state.slots if output.kind == "model" else (),
        age=state.age,
        device=request.device,
        delta_dtype=output.delta_dtype,
    )
    plan = own if is_own else plan_shards(layout.headers, read, granularity=granularity_of(recipe))
    return Prepared(
        base=base, inputs=tuple(ordered), fusion=fusion, measured=products.measured(own, granularity_of(recipe)),
        tied=tied, state=state, plan=products.made(plan), output=output, layout=layout,
    )  # fmt: skip


def read_ahead(prepared: Prepared, executor: Executor) -> Prepared:
    """Return the fusion with remote files read ahead as far as the executor's memory allows; no byte of it changes."""
    remote = [file.file for file in prepared.sources if file.file.is_remote]
    if not remote:
        return prepared
    is_local = all(isinstance(file, BlobFile) and not is_remote(file.store_url) for file in remote)
    count, limit = prepared.fusion.num_contributions, executor.task_bytes
    ahead = request_bytes(is_local=is_local, num_contributions=count, limit_bytes=limit)
    return replace(prepared, fusion=replace(prepared.fusion, request_bytes=ahead))


def fuse(prepared: Prepared, sink: Sink, executor: Executor, *, progress: Progress | None = None) -> Fused:
    """Run all passes of a fusion; every part goes to the sink as it is made.

    Args:
        prepared: What `prepare` planned.
        sink: Where the parts go.
        executor: Runs the tasks: threads here, or Ray anywhere. The result is the same.
        progress: Called as passes begin and shards are done.

    Returns:
        The fused model's digest, and where its parts lie if they went to a store.

    Raises:
        UserInputError: A task would take more memory than a worker may.
        FusionError: The method refuses these contributions, or what it made is not finite.
        SchemaMismatchError: Models disagree on what is copied from the base.
    """
    prepared = read_ahead(prepared, executor)
    held = holding_factors(prepared.fusion, prepared.plan, executor.task_bytes)
    prepared = replace(prepared, fusion=held)
    require_memory(prepared.fusion, prepared.plan, executor.task_bytes)
    for one in (one for one in prepared.passes if one.kind == "compare"):
        for _ in run_pass(executor, one, compare_shard, prepared.fusion, progress):
            pass  # it raises, or there is nothing to say
    fusion = measure_all(executor, prepared.passes, prepared.fusion, progress=progress)
    writer, last = sink.begin(prepared.layout, prepared.plan, fusion.slots), prepared.passes[-1]
    made = dict(run_pass(executor, last, fuse_part, Making(fusion=fusion, writer=writer), progress))
    blocks: dict[str, list[str]] = defaultdict(list)
    # A tensor's digests go in the order of its parts, not in that in which tasks were done.
    for index in range(len(last.shards)):
        for part in made[index]:
            for name, digests in part.blocks.items():
                blocks[name] += digests
    fused = Fused(
        digest=model_digest(prepared.layout.schema, blocks),
        fusion=fusion,
        parts={(shard.file, part.index): part.parts for i, shard in enumerate(last.shards) for part in made[i]},
        num_moved=sum(part.num_moved for parts in made.values() for part in parts),
        blocks=blocks,
        cuts={name: cut for i in range(len(last.shards)) for part in made[i] for name, cut in part.cuts.items()},
    )
    sink.end(fused.digest, fusion)
    return fused


@dataclass(frozen=True, kw_only=True)
class Making:
    """What the tasks of the last pass share."""

    fusion: Fusion
    writer: Writer


def fuse_part(making: Making, shard: Shard) -> list[FusedPart]:
    """Fuse a shard's parts and write each. Running it twice writes the same bytes to the same places."""
    return [
        FusedPart(
            index=fused.part.index,
            parts=making.writer.write(shard.file, fused),
            blocks=fused.blocks,
            num_moved=fused.num_moved,
            cuts=fused.cuts,
        )
        for fused in fuse_shard(making.fusion, shard)
    ]


def compare_shard(fusion: Fusion, shard: Shard) -> None:
    """Check that the models agree with the base on tensors that are copied, where no copy is made."""
    for _ in fuse_shard(replace(fusion, slots=()), shard):
        pass


def sources_of_all(base: Checkpoint, inputs: Sequence[Input], state: State) -> list[TensorFile]:
    """Return all files that a fusion reads."""
    of_inputs = [file for item in inputs for file in (*item.files, *item.statistics)]
    return [*base.files.values(), *of_inputs, *sources_of(state)]


def _layout(base: Checkpoint, read: Inputs, recipe: Recipe, output: Output) -> Layout:
    if output.kind != "model" and recipe.slots:
        kept = ", ".join(recipe.slots)
        raise UserInputError(f"this method keeps {kept} beside the model, which {output.kind}s cannot hold")
    fused = {name: read.tied.get(name, name) for name, spec in base.schema.items() if spec.is_fused}
    if output.kind == "adapter":  # merged into a model that ties, factors for both would be added twice
        fused = {name: first for name, first in fused.items() if name == first}
    changed = [name for name, first in fused.items() if any(first in item for item in read.contributions)]
    return layout_for(output, base, changed)
