"""Fuse a closed round's contributions into the next release, and write its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy

from coldfuse import __version__
from coldfuse.aggregator.checking import make_checks, needs_checks, with_checks
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
from coldfuse.errors import DamagedObjectError
from coldfuse.fusion.recipe import Recipe
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checks import checks_of
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
    base = with_checks(federation, base, executor)
    ordered = in_fusing_order(admissions)
    weights = _weights(recipe, ordered)
    deltas = _checked_deltas(federation, executor, ordered)
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        inputs = list(pool.map(lambda d, a, w: _open_input(base, d, a, w), deltas, ordered, weights))
    sink = StoreSink(federation.objects, federation.store.url, there=_headers_of(base))
    fused = fuse(_prepare(federation, base, inputs, recipe), sink, executor)
    files, checks = sink.files(fused.parts)
    return ReleaseManifest(
        federation=federation.settings.federation,
        release=base.release.release + 1,
        parent=base.release.release,
        round=round_number,
        method=write_recipe(recipe),
        model_digest=fused.digest,
        files=base.release.files | files,
        checks={name: root for name, root in base.release.checks.items() if name not in files} | checks,
        contributions=tuple(
            FusedContribution(**a.model_dump(exclude={"reason", "score", "checks"}), weight=w)
            for a, w in zip(ordered, weights, strict=True)
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
    files, checks = (outer.files, outer.checks) if outer else ({}, {})
    kept = {name: BlobFile(url, blob, name, checks_of(blob, checks.get(name))) for name, blob in files.items()}
    state = open_release_state(base.checkpoint, recipe, kept, outer.age if outer else 0, made_by=base.release.method)
    return prepare(Request(base=base.checkpoint, inputs=inputs, recipe=recipe, state=state, tied=base.tied))


def _headers_of(base: Base) -> set[str]:
    """Return the digests of the headers of the base's files, and of its state's: each is a file's first part."""
    outer = base.release.outer.files if base.release.outer else {}
    return {blob.parts[0].digest for blob in (*base.release.files.values(), *outer.values()) if blob.parts}


def _weights(recipe: Recipe, ordered: Sequence[Admission]) -> tuple[float, ...]:
    weights = tuple(recipe.combiner.weigh(admission.num_examples, admission.score) for admission in ordered)
    return weights if any(weights) else (1.0,) * len(ordered)  # all scores are 0: all count alike


def _checked_deltas(federation: Federation, executor: Executor, ordered: Sequence[Admission]) -> list[BlobFile]:
    """Return the contributions' deltas with what they are verified by, which is made for those of older versions."""
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        manifests = list(pool.map(lambda a: _manifest_of(federation, a), ordered))
    blobs, roots = [manifest.delta for manifest in manifests], [admission.checks for admission in ordered]
    without = [i for i, blob in enumerate(blobs) if roots[i] is None and needs_checks(blob)]
    for index, root in zip(without, make_checks(federation, executor, [blobs[i] for i in without]), strict=True):
        roots[index] = root
    names = [f"the contribution of {a.contributor} ({a.contribution[:12]})" for a in ordered]
    url = federation.store.url
    return [BlobFile(url, b, name, checks_of(b, root)) for b, root, name in zip(blobs, roots, names, strict=True)]


def _manifest_of(federation: Federation, admission: Admission) -> ContributionManifest:
    """Read a contribution's manifest, which the journal must agree with: a bit of that may have flipped, too.

    Raises:
        DamagedObjectError: The manifest is damaged, or the journal says something else.
    """
    manifest = federation.objects.get_value(ContributionManifest, admission.contribution)
    own = manifest.contributor, manifest.delta_digest, manifest.num_examples
    if own != (admission.contributor, admission.delta_digest, admission.num_examples):
        raise DamagedObjectError(
            f"{federation.store.url}: the journal has admitted contribution {admission.contribution[:12]} with other "
            f"facts than its manifest has ({', '.join(map(str, own))}); restore the journal from a copy of the store"
        )
    return manifest


def _open_input(base: Base, delta: BlobFile, admission: Admission, weight: float) -> Input:
    file = open_tensors(delta)
    return delta_input(base.checkpoint, file, weight, tied=base.tied, path=delta.name, digest=admission.delta_digest)
