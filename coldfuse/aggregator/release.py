"""Fuse a closed round's contributions into the next release, and write its manifest."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy

from coldfuse import __version__
from coldfuse.aggregator.model import Base
from coldfuse.aggregator.standing import Standing, describe, norms_after, standing
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.value import Digest, Value
from coldfuse.engine.execution import Executor
from coldfuse.engine.fuse import Prepared, Request, fuse, prepare, read_ahead
from coldfuse.engine.inputs import Input, delta_input
from coldfuse.engine.job import require_memory as require_task_memory
from coldfuse.engine.job import task_bytes
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.engine.sinks import StoreSink
from coldfuse.engine.state import open_release_state
from coldfuse.fusion.outer.adaptive import Adaptive
from coldfuse.fusion.recipe import Recipe
from coldfuse.registry.federation import Federation
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
    recipe = _bounded(read_recipe(federation.settings.method), federation.settings.screening)
    rules, past = federation.settings.screening, base.release.norms
    counted = standing(admissions, recipe, rules, past, staleness=partial(_staleness, federation, base))
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        inputs = list(pool.map(lambda each: _open_input(federation, base, each), counted))
    sink = StoreSink(federation.objects, federation.store.url, there=_headers_of(base))
    fused = fuse(_prepare(federation, base, inputs, recipe), sink, executor)
    return ReleaseManifest(
        federation=federation.settings.federation,
        release=base.release.release + 1,
        parent=base.release.release,
        round=round_number,
        method=write_recipe(recipe),
        model_digest=fused.digest,
        files=base.release.files | sink.files(fused.parts),
        contributions=tuple(each.fused() for each in counted),
        outer=sink.state(fused.parts, age=fused.fusion.age + 1),
        moved=fused.moved,
        norms=norms_after(counted, rules, past),
        created_at_s=now_s,
        software={"coldfuse": __version__, "numpy": numpy.__version__},
    )


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
    outer, url = base.release.outer, federation.store.url
    # Nothing is opened here: of the slots that the release carries, only those that the recipe keeps are read.
    kept = {name: BlobFile(url, blob, name) for name, blob in outer.files.items()} if outer else {}
    state = open_release_state(base.checkpoint, recipe, kept, outer.age if outer else 0, made_by=base.release.method)
    return prepare(Request(base=base.checkpoint, inputs=inputs, recipe=recipe, state=state, tied=base.tied))


def _headers_of(base: Base) -> set[str]:
    """Return the digests of the headers of the base's files, and of its state's: each is a file's first part."""
    outer = base.release.outer.files if base.release.outer else {}
    return {blob.parts[0].digest for blob in (*base.release.files.values(), *outer.values()) if blob.parts}


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


class _Stored(Value):
    """What is read of a manifest again: all else was checked when it was screened."""

    delta: Blob
    base_digest: Digest


def _staleness(federation: Federation, base: Base, admission: Admission) -> float:
    """Return what a delta is multiplied by for the age of its base; 1 where that is the base of the round."""
    if admission.base_release is None:
        return 1.0
    return federation.settings.rules.weight_of(base.release.release - admission.base_release)


def _open_input(federation: Federation, base: Base, counted: Standing) -> Input:
    admission = counted.admission
    stored = federation.objects.get_value(_Stored, admission.contribution)
    name = f"the contribution of {admission.contributor} ({admission.contribution[:12]})"
    file = open_tensors(BlobFile(federation.store.url, stored.delta, name))
    item = delta_input(
        base.checkpoint, file, counted.weight, tied=base.tied, path=name, digest=admission.delta_digest,
        base_digest=None if admission.base_release is None else stored.base_digest,
    )  # fmt: skip
    return dataclasses.replace(item, share=counted.share * counted.staleness_weight)
