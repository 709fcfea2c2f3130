"""Contributions with statistics to hand-made federations, honest ones and others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tiny_rounds import Model, make_changes, make_contribution, receive

from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.serialization import blob_digest
from coldfuse.core.statistics import Coding, ContributedStatistics, StatisticsKind
from coldfuse.registry.federation import Federation
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.coded_statistics import usual_coding, write_coded_statistics
from coldfuse.tensors.header import parse_header
from coldfuse.tensors.parts import plan_parts
from coldfuse.tensors.statistics import StatisticsInfo

KINDS: dict[str, StatisticsKind] = {"regmean": "gram", "fisher": "fisher", "precision": "variance"}
"""The statistics of each method."""

_ESTIMATORS = {"gram": "inputs", "fisher": "exact", "variance": "swag-diagonal"}
_OVER = {"gram": "tokens", "fisher": "examples", "variance": "snapshots"}

Arrays = Mapping[str, np.ndarray]


def make_statistics(model: Model, kind: StatisticsKind, seed: int) -> dict[str, np.ndarray]:
    """Make what some data may say of a model: of its matrices' inputs, or of all its elements."""
    rng = np.random.default_rng(seed)
    if kind == "gram":
        sizes = {name: t.spec.shape[1] for name, t in model.items() if name.endswith("layer.weight")}
        inputs = {name: rng.normal(size=(40, size)) for name, size in sizes.items()}
        return {name: (x.T @ x / len(x)).astype(np.float32) for name, x in inputs.items()}
    fused = {name: t.spec.shape for name, t in model.items() if t.spec.is_fused}
    return {name: np.exp(3 * rng.normal(size=shape) - 9).astype(np.float32) for name, shape in fused.items()}


def info_of(kind: StatisticsKind, of: Blob, **different: object) -> StatisticsInfo:
    """Say what a file of statistics says of itself."""
    count = 400 if kind == "gram" else 20
    values = {
        "kind": kind, "estimator": _ESTIMATORS[kind], "num_examples": 20, "over": _OVER[kind], "count": count,
        "padding": "excluded" if kind == "gram" else None, "coding": usual_coding(kind), "delta": blob_digest(of),
    }  # fmt: skip
    return StatisticsInfo.model_validate(values | different)


def coded_file(arrays: Arrays, info: StatisticsInfo) -> bytes:
    """Write a file of statistics as a contributor does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "statistics"
        write_coded_statistics(path, {name: a.shape for name, a in arrays.items()}, lambda name: arrays[name], info)
        return path.read_bytes()


def body_of(data: bytes) -> int:
    """Return the byte at which the tensors of a safetensors file begin."""
    return 8 + int.from_bytes(data[:8], "little")


def stored(federation: Federation, data: bytes) -> Blob:
    """Put a safetensors file into the store, part by part."""
    layouts = plan_parts(parse_header(data[8 : body_of(data)], what="test"))
    objects = federation.objects
    return Blob(parts=tuple(put_part(data[p.start : p.start + p.size_bytes], objects.put) for p in layouts))


def with_statistics(
    federation: Federation,
    manifest: ContributionManifest,
    kind: StatisticsKind,
    arrays: Arrays,
    *,
    change: Callable[[bytes], bytes] = bytes,
    says: Mapping[str, object] = {},
    coding: Coding | None = None,
) -> ContributionManifest:
    """Return a contribution with statistics beside its delta.

    Args:
        federation: Where they go.
        manifest: The contribution without.
        kind: Their kind.
        arrays: Their numbers.
        change: Changes their file's bytes before they are stored.
        says: What file and manifest say otherwise.
        coding: How the numbers are coded; the usual way by default.
    """
    info = info_of(kind, manifest.delta, **({"coding": coding} if coding else {}), **says)
    file = stored(federation, change(coded_file(arrays, info)))
    given = ContributedStatistics(
        kind=info.kind, estimator=info.estimator, coding=info.coding or "F16", num_examples=info.num_examples,
        count=info.count, file=file, digest=blob_digest(file),
    )  # fmt: skip
    return manifest.model_copy(update={"statistics": given})


def bring(
    federation: Federation,
    model: Model,
    name: str,
    kind: StatisticsKind | None,
    *,
    seed: int,
    coding: Coding | None = None,
) -> ContributionManifest:
    """Contribute to the open round with statistics, or without where there is no kind."""
    manifest = make_contribution(federation, name, make_changes(model, seed))
    if kind is not None:
        manifest = with_statistics(federation, manifest, kind, make_statistics(model, kind, seed), coding=coding)
    receive(federation, manifest, at_s=float(seed))
    return manifest
