"""Fuse a closed round's contributions into the next release, and write its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy

from coldfuse import __version__
from coldfuse.aggregator.model import Base
from coldfuse.core.contribution import Admission, ContributionManifest, in_fusing_order
from coldfuse.core.release import FusedContribution, ReleaseManifest
from coldfuse.engine.execution import Executor
from coldfuse.engine.fuse import Prepared, Request, fuse, prepare, read_ahead
from coldfuse.engine.inputs import Input, delta_input
from coldfuse.engine.job import require_memory as require_task_memory
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.engine.sinks import StoreSink
from coldfuse.engine.state import open_release_state
from coldfuse.fusion.recipe import Recipe
from coldfuse.fusion.settings import always
from coldfuse.fusion.stale import Stale
from coldfuse.registry.federation import Federation
from coldfuse.tensors.files import BlobFile
from coldfuse.tensors.tensor_file import open_tensors

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
    recipe = read_recipe(federation.settings.method)
    ordered = in_fusing_order(admissions)
    weights, ages = _weights(recipe, ordered), _ages(federation, base, ordered)
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        inputs = list(pool.map(lambda a, w, s: _open_input(federation, base, a, w, s), ordered, weights, ages))
    sink = StoreSink(federation.objects, federation.store.url, there=_headers_of(base))
    applied = recipe if set(ages) <= {None} else replace(recipe, transforms=(Stale(), *recipe.transforms))
    fused = fuse(_prepare(federation, base, inputs, applied), sink, executor)
    return ReleaseManifest(
        federation=federation.settings.federation,
        release=base.release.release + 1,
        parent=base.release.release,
        round=round_number,
        method=write_recipe(recipe),
        model_digest=fused.digest,
        files=base.release.files | sink.files(fused.parts),
        contributions=tuple(
            FusedContribution(**a.model_dump(exclude={"reason", "score"}), weight=w, staleness_weight=s)
            for a, w, s in zip(ordered, weights, ages, strict=True)
        ),
        outer=sink.state(fused.parts, age=fused.fusion.age + 1),
        moved=fused.moved,
        created_at_s=now_s,
        software={"coldfuse": __version__, "numpy": numpy.__version__},
    )


def require_memory(federation: Federation, base: Base, executor: Executor) -> None:
    """Raise `UserInputError` if a part of this model cannot be fused in the memory that a worker may take.

    Only as many contributions as the quorum are counted; more are worked on in shorter blocks.
    """
    count = federation.settings.rules.quorum
    empty = [Input(path="", files=(), is_delta=True, weight=1.0, known_digest="")] * count
    prepared = read_ahead(_prepare(federation, base, empty, read_recipe(federation.settings.method)), executor)
    require_task_memory(prepared.fusion, prepared.plan, executor.task_bytes)


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


def _weights(recipe: Recipe, ordered: Sequence[Admission]) -> tuple[float, ...]:
    weights = tuple(recipe.combiner.weigh(admission.num_examples, admission.score) for admission in ordered)
    return weights if any(weights) else (1.0,) * len(ordered)  # all scores are 0: all count alike


def _ages(federation: Federation, base: Base, ordered: Sequence[Admission]) -> tuple[float | None, ...]:
    """Return what each delta is multiplied by for the age of its base; None where that is the base of the round."""
    rules, latest = federation.settings.rules, base.release.release
    return tuple(
        None if admission.base_release is None else rules.weight_of(latest - admission.base_release)
        for admission in ordered
    )


def _open_input(
    federation: Federation, base: Base, admission: Admission, weight: float, staleness_weight: float | None
) -> Input:
    manifest = federation.objects.get_value(ContributionManifest, admission.contribution)
    name = f"the contribution of {admission.contributor} ({admission.contribution[:12]})"
    file = open_tensors(BlobFile(federation.store.url, manifest.delta, name))
    item = delta_input(
        base.checkpoint, file, weight, tied=base.tied, path=name, digest=admission.delta_digest,
        base_digest=None if admission.base_release is None else manifest.base_digest,
    )  # fmt: skip
    return item if staleness_weight is None else replace(item, settings={"Stale.by": always(staleness_weight)})
