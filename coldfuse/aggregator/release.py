"""Fuse a closed round's contributions into the next release, and write its manifest."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy

from coldfuse import __version__
from coldfuse.aggregator.checking import MakeChecks, make_checks, with_checks
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.standing import Standing, describe, norms_after, standing
from coldfuse.aggregator.stored import Files, read_files
from coldfuse.core.contribution import Admission
from coldfuse.core.release import Cut, ReleaseManifest
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.cutting import all_together, relative
from coldfuse.engine.execution import Executor
from coldfuse.engine.fuse import Fused, Prepared, Request, fuse, prepare, read_ahead
from coldfuse.engine.informed import with_statistics
from coldfuse.engine.inputs import Input, delta_input
from coldfuse.engine.job import LEAST_FACTOR_BYTES, task_bytes
from coldfuse.engine.job import require_memory as require_task_memory
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.engine.sinks import FolderSink, StoreSink
from coldfuse.engine.state import open_release_state
from coldfuse.fusion.method import Statistic
from coldfuse.fusion.outer.adaptive import Adaptive
from coldfuse.fusion.recipe import Recipe
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import Objects, SeenObjects
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.checks import checks_of
from coldfuse.tensors.files import BlobFile
from coldfuse.tensors.tensor_file import open_tensors

MOST_CONTRIBUTIONS = 1 << 17
"""Number of contributions to a round that nobody counts beyond."""

_PARALLEL_READS = 16
"""Number of small objects that are read at a time."""


def fuse_release(
    federation: Federation,
    base: Base,
    admissions: Sequence[Admission],
    executor: Executor,
    *,
    round_number: int,
    now_s: float,
) -> ReleaseManifest:
    """Fuse these contributions on the base, and return the manifest of the release to be published.

    Args:
        federation: Where the contributions lie and the parts go.
        base: The release that the contributions refer to.
        admissions: What is fused, in any order.
        executor: Runs the tasks.
        round_number: The round that they came in.
        now_s: Seconds since 1970, for people.

    Returns:
        The manifest, whose files and state lie in the store; nothing of it is visible until it is published.

    Raises:
        FusionError: The method refuses these contributions.
    """
    base = with_checks(federation, base, executor)
    fusing = _Fusing(federation, base, executor, partial(make_checks, federation, executor))
    return _fuse(fusing, admissions, round_number=round_number, now_s=now_s)[0]


def fuse_again(
    federation: Federation,
    base: Base,
    admissions: Sequence[Admission],
    executor: Executor,
    *,
    round_number: int,
    into: ObjectStore | None = None,
) -> tuple[ReleaseManifest, Fused]:
    """Fuse these contributions on the base as `fuse_release` does, and write nothing into the federation's store.

    Args:
        federation: Where the contributions lie.
        base: The release that the contributions refer to.
        admissions: What is fused, in any order.
        executor: Runs the tasks.
        round_number: The round that they came in.
        into: Store that what is made is written into, for who fuses on it in turn; None: it is named alone.

    Returns:
        The manifest that would be published, but for the time, and what was made.

    Raises:
        FusionError: The method refuses these contributions.
        DamagedObjectError: Something that is needed for it is damaged or missing.
    """
    fusing = _Fusing(federation, base, executor, None, into)
    return _fuse(fusing, admissions, round_number=round_number, now_s=0.0)


def fuse_into(
    federation: Federation, base: Base, admissions: Sequence[Admission], executor: Executor, *, folder: Path
) -> str:
    """Fuse these contributions on the base as `fuse_release` does, into a model folder; the store is only read.

    Args:
        federation: Where the contributions lie.
        base: The release that they refer to.
        admissions: What is fused, in any order.
        executor: Runs the tasks, on this machine.
        folder: Where the model goes; it exists, and is empty.

    Returns:
        The fused model's digest.

    Raises:
        FusionError: The method refuses these contributions.
        DamagedObjectError: Something that is needed for it is damaged or missing.
    """
    _, prepared, _ = _ready(_Fusing(federation, base, executor, None), admissions)
    return fuse(prepared, FolderSink(folder, base.checkpoint), executor).digest


@dataclasses.dataclass(frozen=True)
class _Fusing:
    """What a release is made with."""

    federation: Federation
    base: Base
    executor: Executor
    check: MakeChecks | None
    """Makes the checks of files that have none; None where nothing is written, and parts are read whole instead."""
    into: ObjectStore | None = None
    """Store that the parts go into, which has none of the base's; None: the federation's."""

    def sink(self) -> StoreSink:
        """Return where the parts go."""
        if self.into is not None:
            return StoreSink(Objects(self.into), self.into.url)
        is_dry, store = self.check is None, self.federation.store
        objects = SeenObjects(store) if is_dry else self.federation.objects
        return StoreSink(objects, store.url, there=_parts_of(self.base), is_dry=is_dry)


def _fuse(
    fusing: _Fusing, admissions: Sequence[Admission], *, round_number: int, now_s: float
) -> tuple[ReleaseManifest, Fused]:
    federation, base, executor = fusing.federation, fusing.base, fusing.executor
    counted, prepared, recipe = _ready(fusing, admissions)
    sink = fusing.sink()
    fused = fuse(prepared, sink, executor)
    files, checks = sink.files(fused.parts)
    manifest = ReleaseManifest(
        federation=federation.settings.federation,
        release=base.number,
        parent=base.release.release,
        round=round_number,
        method=write_recipe(recipe),
        model_digest=fused.digest,
        files=base.release.files | files,
        checks={name: root for name, root in base.release.checks.items() if name not in files} | checks,
        contributions=tuple(each.fused(recipe.statistic) for each in counted),
        outer=sink.state(fused.parts, age=fused.fusion.age + 1),
        moved=fused.moved,
        norms=norms_after(counted, federation.settings.screening, base.release.norms),
        module=base.release.module,
        base_facts=base.release.base_facts,
        cut=_cut(fused),
        created_at_s=now_s,
        software={"coldfuse": __version__, "numpy": numpy.__version__},
    )
    return manifest, fused


def _ready(fusing: _Fusing, admissions: Sequence[Admission]) -> tuple[list[Standing], Prepared, Recipe]:
    """Open what is fused, and plan: how much each contribution counts, the plan, and the recipe."""
    federation, base = fusing.federation, fusing.base
    recipe = _bounded(read_recipe(federation.settings.method), federation.settings.screening)
    rules, past = federation.settings.screening, base.release.norms
    counted = standing(admissions, recipe, rules, past, staleness=partial(_staleness, federation, base))
    files_of = read_files(federation, [each.admission for each in counted], fusing.check)
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        inputs = list(pool.map(lambda each, of: _open_input(base, each, of, recipe.statistic), counted, files_of))
    return counted, _prepare(federation, base, inputs, recipe), recipe


def _cut(fused: Fused) -> Cut | None:
    """Return what was lost where factors were cut to their rank, of the modules that anybody has changed."""
    if not fused.cuts:
        return None
    modules = {name: relative(norms) for name, norms in sorted(fused.cuts.items())}
    return Cut(error=relative(all_together(fused.cuts)), modules=modules)


def describe_standing(federation: Federation, base: Base, admissions: Iterable[Admission]) -> str:
    """Say after a closing round's reason who counts less than they claim; "" if nobody does."""
    recipe = read_recipe(federation.settings.method)
    notes = describe(standing(admissions, recipe, federation.settings.screening, base.release.norms))
    return f"; {notes}" if notes else ""


def most_contributions(federation: Federation, base: Base, executor: Executor) -> int:
    """Return how many contributions can be fused at once in the memory that a worker may take.

    Raises:
        UserInputError: Not even as many as the quorum.
    """
    quorum = federation.settings.rules.quorum
    empty = [Input(path="", files=(), is_delta=True, weight=1.0, known_digest="")] * quorum
    prepared = _prepare(federation, base, empty, read_recipe(federation.settings.method))
    require_task_memory(read_ahead(prepared, executor).fusion, prepared.plan, executor.task_bytes)

    def is_too_much(count: int) -> bool:
        many = dataclasses.replace(prepared, fusion=dataclasses.replace(prepared.fusion, weights=(1.0,) * count))
        return task_bytes(read_ahead(many, executor).fusion, prepared.plan) > executor.task_bytes

    fits = quorum
    while fits < MOST_CONTRIBUTIONS:
        next_power = 1 << fits.bit_length()  # up to it blocks have one length, and memory grows with the count alone
        if is_too_much(next_power):
            return fits + bisect_left(range(fits + 1, next_power + 1), True, key=is_too_much)
        fits = next_power
    return fits


def _prepare(federation: Federation, base: Base, inputs: Sequence[Input], recipe: Recipe) -> Prepared:
    outer, url = base.release.outer, base.store_url or federation.store.url
    # Nothing is opened here: of the slots that the release carries, only those that the recipe keeps are read.
    files, checks = (outer.files, outer.checks) if outer else ({}, {})
    kept = {name: BlobFile(url, blob, name, checks_of(blob, checks.get(name))) for name, blob in files.items()}
    state = open_release_state(base.checkpoint, recipe, kept, outer.age if outer else 0, made_by=base.release.method)
    prepared = prepare(Request(base=base.checkpoint, inputs=inputs, recipe=recipe, state=state, tied=base.tied))
    # There is memory for factors before any come: else a contribution could stop a round.
    fusion = dataclasses.replace(prepared.fusion, factor_bytes=LEAST_FACTOR_BYTES)
    return dataclasses.replace(prepared, fusion=fusion)


def _parts_of(base: Base) -> set[str]:
    """Return the digests of all parts of the base's files, and of its state's: what nobody changes is the same part."""
    outer = base.release.outer.files if base.release.outer else {}
    return {part.digest for blob in (*base.release.files.values(), *outer.values()) for part in blob.parts}


def _bounded(recipe: Recipe, rules: ScreeningRules) -> Recipe:
    """Return the recipe with outer steps that no single element can freeze, where it says nothing of that itself."""
    if not rules.is_on:
        return recipe
    return dataclasses.replace(
        recipe,
        outers=tuple(
            outer.model_copy(update={"bound": rules.outer_bound})
            if isinstance(outer, Adaptive) and outer.bound is None
            else outer
            for outer in recipe.outers
        ),
    )


def _staleness(federation: Federation, base: Base, admission: Admission) -> float:
    """Return what a delta is multiplied by for the age of its base; 1 where that is the base of the round."""
    if admission.base_release is None:
        return 1.0
    return federation.settings.rules.weight_of(base.release.release - admission.base_release)


def _open_input(base: Base, counted: Standing, files: Files, kind: Statistic | None) -> Input:
    admission, delta = counted.admission, files.delta
    item = delta_input(
        base.checkpoint, open_tensors(delta), counted.weight, tied=base.tied, path=delta.name,
        digest=admission.delta_digest,
        base_digest=files.stored.base_digest if base.is_stand_in or admission.base_release is not None else None,
        mask=open_tensors(files.mask) if files.mask else None,
    )  # fmt: skip
    item = dataclasses.replace(item, share=counted.share * counted.staleness_weight)
    used = admission.used_statistics(kind)
    if kind is None or used is None or files.statistics is None:
        return item
    return with_statistics(base.checkpoint, item, kind, open_tensors(files.statistics), delta=admission.delta_digest)
