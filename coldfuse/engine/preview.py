"""What a fusion would do, said before it is done: what it reads, in which passes, and how much memory that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from coldfuse.core.left_out import LeftOut
from coldfuse.engine.execution import Executor
from coldfuse.engine.explain import explaining_pass, is_linear
from coldfuse.engine.fuse import Prepared, read_ahead
from coldfuse.engine.job import task_bytes
from coldfuse.engine.passes import Pass
from coldfuse.engine.plan import all_shards
from coldfuse.engine.recipes import known_methods
from coldfuse.engine.settings import described, settings_of
from coldfuse.fusion.method import Scope
from coldfuse.fusion.settings import WEIGHT


@dataclass(frozen=True, kw_only=True)
class InputReport:
    """One input."""

    path: str
    """Name or place of the input."""
    kind: Literal["model", "delta", "adapter"]
    weight: float | None
    """How much the input counts; None where that differs from tensor to tensor."""
    size_bytes: int
    """Size of all files of tensors."""
    statistics_bytes: int
    """Size of the file of statistics; 0 if there is none."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """The input's own numbers, as a weights file says them, if there are others than a weight for all tensors."""


@dataclass(frozen=True, kw_only=True)
class PassReport:
    """One pass over the inputs."""

    what: str
    """What the pass does, in a few words."""
    step: str
    """Name of the recipe's step that needs the pass; "" if none measures in it."""
    scope: Scope | None
    """What each result is of, the whole model or one tensor; None: the pass measures nothing."""
    place: str
    """Where the pass works, in words, if a device was given; "" if not."""
    read_bytes: int
    """Maximum number of bytes of the inputs that are read."""
    write_bytes: int = 0
    """Number of bytes that are written."""
    may_repeat: bool = False
    """True if another pass follows where a sample misleads this one, as ranks are exact."""


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """What a fusion would do."""

    recipe: str
    """The recipe with every parameter."""
    base: str
    """Name or place of the base."""
    base_bytes: int
    """Size of the base's files of tensors."""
    inputs: tuple[InputReport, ...]
    """All inputs, in fusing order."""
    num_tensors: int
    """Number of tensors that are fused; the others are copied."""
    num_elements: int
    """Number of elements of the tensors that are fused."""
    num_files: int
    """Number of the base's files of tensors."""
    num_parts: int
    """Number of parts that are made."""
    num_shards: int
    """Number of tasks of the last pass."""
    passes: tuple[PassReport, ...]
    """All passes, in order."""
    task_bytes: int
    """Memory that the largest task takes."""
    limit_bytes: int
    """Memory that one worker may take."""
    num_workers: int
    """Number of workers on one machine."""
    left_out: tuple[LeftOut, ...]
    """What lies beside the base or in an input and goes into no result, and what an input lacks."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Parameters of the method that differ from tensor to tensor, as a weights file says them."""

    @property
    def fits(self) -> bool:
        """True if a worker's memory suffices for every task."""
        return self.task_bytes <= self.limit_bytes


def describe(prepared: Prepared, executor: Executor, *, is_explained: bool = False) -> PlanReport:
    """Say what fusing (and then explaining, if `is_explained`) would do, without reading a tensor."""
    prepared = read_ahead(prepared, executor)
    fusion, plan, base = prepared.fusion, prepared.plan, prepared.base
    shards = all_shards(plan)
    passes = tuple(_report(one) for one in all_passes(prepared, is_explained=is_explained))
    return PlanReport(
        recipe=described(fusion),
        base=prepared.output.base_name or str(base.folder),
        base_bytes=sum(header.file_bytes for header in base.headers.values()),
        inputs=report_inputs(prepared),
        num_tensors=sum(spec.is_fused and name not in prepared.tied for name, spec in base.schema.items()),
        num_elements=fusion.num_elements,
        num_files=len(base.headers),
        num_parts=sum(len(shard.parts) for shard in shards),
        num_shards=len(shards),
        passes=passes,
        task_bytes=task_bytes(fusion, plan),
        limit_bytes=executor.task_bytes,
        num_workers=executor.num_workers,
        parameters=settings_of(fusion)[1],
        left_out=all_left_out(prepared),
    )


def all_passes(prepared: Prepared, *, is_explained: bool = False) -> list[Pass]:
    """List all passes of a fusion, and one to explain it where it is no linear combination."""
    passes = prepared.passes
    return [*passes, explaining_pass(prepared)] if is_explained and not is_linear(prepared.fusion) else list(passes)


def all_left_out(prepared: Prepared) -> tuple[LeftOut, ...]:
    """Return all that a fusion leaves out: files of the base's, if a model is made, and tensors of the inputs."""
    base, output = prepared.base, prepared.output
    name = output.base_name or str(base.folder)
    is_model = output.kind == "model"
    own = base.left_out(name, how="--with-code copies it") if is_model else base.left_out_as_read(name)
    return tuple(dict.fromkeys([*own, *(item for one in prepared.inputs for item in one.left_out)]))


def report_inputs(prepared: Prepared) -> tuple[InputReport, ...]:
    """Say what the inputs are, in fusing order."""
    each, _ = settings_of(prepared.fusion)
    return tuple(
        InputReport(
            path=str(item.path),
            kind="adapter" if item.adapter else "delta" if item.is_delta else "model",
            weight=weight if isinstance(weight := own[WEIGHT], int | float) else None,
            size_bytes=sum(source.header.file_bytes for source in item.files),
            statistics_bytes=sum(source.header.file_bytes for source in item.statistics),
            settings=own if len(own) > 1 or isinstance(own[WEIGHT], dict) else {},
        )
        for item, own in zip(prepared.inputs, each, strict=True)
    )


def _report(one: Pass) -> PassReport:
    return PassReport(
        what=one.name,
        step=known_methods().name_of(type(one.fusion.recipe.steps[one.step])) if one.measures else "",
        scope=one.what.per if one.measures else None,
        place=one.place,
        read_bytes=one.read_bytes,
        write_bytes=one.write_bytes,
        may_repeat=one.may_repeat,
    )
