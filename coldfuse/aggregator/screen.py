"""Screen one contribution, cheapest check first: manifest, header against the base, then every byte.

The last step reads each part once: its digest must be the one it is named by, and every number must be finite. A
contribution that fails is rejected with a sentence for its contributor; it never stops the round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coldfuse.aggregator.files import shared_store
from coldfuse.codec.blobs import BlobReader
from coldfuse.codec.deltas import check_delta
from coldfuse.codec.header import Header, read_header
from coldfuse.codec.manifests import sha256
from coldfuse.codec.parts import PartLayout, plan_parts
from coldfuse.core.contribution import Admission, ContributionManifest, Rejection
from coldfuse.core.dtypes import to_floats
from coldfuse.core.round import Opened
from coldfuse.core.schema import Schema
from coldfuse.core.screening import screen_manifest
from coldfuse.errors import CodecError, ContributionRejectedError, ObjectNotFoundError, SchemaMismatchError
from coldfuse.registry.objects import Objects

_REASONS = (CodecError, SchemaMismatchError, ContributionRejectedError, ObjectNotFoundError)


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What the screenings of a round share."""

    store_url: str
    round: int
    opened: Opened
    schema: Schema
    """The base's."""


def screen(screening: Screening, received: tuple[str, str]) -> Admission | Rejection:
    """Judge one received contribution, given as (manifest digest, contributor)."""
    digest, contributor = received
    objects = Objects(shared_store(screening.store_url))
    try:
        manifest = objects.get_value(ContributionManifest, digest)
        if reason := screen_manifest(manifest, screening.opened, screening.round):
            raise ContributionRejectedError(reason)
        if manifest.contributor != contributor:
            raise ContributionRejectedError(f"its manifest names {manifest.contributor}, it came from {contributor}")
        reader = objects.open(manifest.delta)
        header = read_header(reader.read_into, file_bytes=manifest.delta.size_bytes, what="delta")
        check_delta(header, screening.schema, base_digest=screening.opened.base_digest, what="delta")
        _check_parts(header, manifest, reader)
    except _REASONS as error:
        return Rejection(contribution=digest, contributor=contributor, reason=str(error)[:2000])
    return Admission(
        contribution=digest, contributor=manifest.contributor, delta_digest=manifest.delta_digest,
        num_examples=manifest.num_examples, reason="base, schema, digests and finiteness are right",
    )  # fmt: skip


def _check_parts(header: Header, manifest: ContributionManifest, reader: BlobReader) -> None:
    layouts = plan_parts(header)
    if [layout.size_bytes for layout in layouts] != [part.size_bytes for part in manifest.delta.parts]:
        raise ContributionRejectedError("delta: not cut into parts along its tensors; upload it with coldfuse")
    for layout, part in zip(layouts, manifest.delta.parts, strict=True):
        data = reader.read(layout.start, layout.size_bytes)
        if sha256(data) != part.digest:
            raise CodecError(f"delta: part {part.digest[:12]} does not have the SHA-256 that it is named by")
        _check_finite(layout, data)


def _check_finite(layout: PartLayout, data: bytes) -> None:
    for piece in layout.pieces:
        start = piece.start - layout.start
        raw = np.frombuffer(data, np.uint8, count=piece.num_bytes, offset=start)
        values = to_floats(raw, piece.tensor.spec.dtype)
        if not np.isfinite(values.sum(dtype=np.float64)):  # finite float32 cannot overflow a float64 sum
            bad = int(np.count_nonzero(~np.isfinite(values)))
            raise ContributionRejectedError(
                f"delta: tensor {piece.tensor.name[:200]} has {bad} values that are NaN or infinite; "
                "did the training diverge? lower the learning rate"
            )
