"""Deltas in every encoding on the hand-made model, and what they are element by element; contributions of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tiny_rounds import receive

from coldfuse.aggregator.model import open_base
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import blob_digest
from coldfuse.registry.federation import Federation
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.changes import Change, DenseChange, LowRankChange, SparseChange, write_changes
from coldfuse.tensors.deltas import mask_name
from coldfuse.tensors.masks import Mask, open_mask, write_mask
from coldfuse.tensors.parts import plan_parts
from coldfuse.tensors.tensor_file import read_file_header


def dense(values: np.ndarray) -> DenseChange:
    return DenseChange(lambda first, count: values.reshape(-1)[first : first + count])


def factors(rows: int, columns: int, rank: int, *, seed: int = 0, scale: float = 0.5) -> LowRankChange:
    rng = np.random.default_rng(seed)
    up, down = rng.normal(size=(rows, rank)), rng.normal(size=(rank, columns))
    return LowRankChange(up.astype(np.float32) * np.float32(0.1), down.astype(np.float32), scale)


def sparse(num: int, of: int, seed: int = 3) -> SparseChange:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=num).astype(np.float32) * np.float32(0.1)
    return SparseChange(np.sort(rng.choice(of, num, replace=False)).astype(np.int64), values)


def whole(change: LowRankChange) -> np.ndarray:
    """Expand a product by its definition, one element after the other."""
    up, down = change.up.astype(np.float64), change.down.astype(np.float64)
    found = np.zeros((len(up), down.shape[1]))
    for row in range(len(up)):
        for column in range(down.shape[1]):
            total = 0.0
            for k in range(up.shape[1]):
                total += up[row, k] * down[k, column]
            found[row, column] = change.scale * total
    return found


def put_file(federation: Federation, path: Path) -> Blob:
    """Put a file into the store in parts, as a gateway does."""
    data = path.read_bytes()
    layouts = plan_parts(read_file_header(path))
    parts = (put_part(data[p.start : p.start + p.size_bytes], federation.objects.put) for p in layouts)
    return Blob(parts=tuple(parts))


def manifest_of(federation: Federation, contributor: str, delta: Blob, **different: object) -> ContributionManifest:
    latest = federation.latest()
    values: dict[str, object] = {
        "federation": federation.settings.federation, "contributor": contributor, "round": federation.current_round(),
        "base_release": latest.release, "base_digest": latest.model_digest, "encoding": "F32",
        "num_examples": 100, "num_steps": 10, "delta": delta, "delta_digest": blob_digest(delta),
    }  # fmt: skip
    return ContributionManifest.model_validate(values | different)


def send(
    federation: Federation,
    contributor: str,
    changes: Mapping[str, Change],
    folder: Path,
    *,
    mask: Mask | None = None,
    **different: object,
) -> str:
    """Contribute changes to the open round; return the contribution's digest."""
    path = folder / f"{contributor}.safetensors"
    write(path, schema_of(federation), changes, base_digest=federation.latest().model_digest, mask=mask)
    if mask is not None:
        different = {"mask": put_file(federation, mask.file.file.path)} | different
    return receive(federation, manifest_of(federation, contributor, put_file(federation, path), **different))


def write(
    path: Path, schema: Schema, changes: Mapping[str, Change], *, base_digest: str, mask: Mask | None = None
) -> Path:
    write_changes(path, schema, changes, dtype="F32", base_digest=base_digest, mask=mask)
    return path


def make_mask(folder: Path, schema: Schema, indices: Mapping[str, np.ndarray]) -> Mask:
    """Write a mask under the name by which a fusion of files finds it."""
    write_mask(folder / "mask", schema, indices)
    (folder / "mask").rename(folder / mask_name(open_mask(folder / "mask").digest))
    return open_mask(next(folder.glob("mask-*.safetensors")))


def schema_of(federation: Federation) -> Schema:
    return open_base(federation, federation.latest()).schema
