"""Screen one contribution, cheapest check first: manifest, header against the base, then every byte.

The last step reads each part once: its digest must be the one it is named by, and every number must be finite. A
contribution that fails is rejected with a sentence for its contributor; it never stops the round.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coldfuse.aggregator.mending import find_damages
from coldfuse.aggregator.meter import LayerGroups, Meter
from coldfuse.aggregator.products import check_products
from coldfuse.aggregator.screen_statistics import check_brought
from coldfuse.aggregator.screen_values import Values, check_expanded, check_parts
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission, AdmittedStatistics, ContributionManifest, Measured, Rejection
from coldfuse.core.damage import Damage
from coldfuse.core.round import Opened
from coldfuse.core.schema import Schema
from coldfuse.core.screening import screen_change, screen_manifest, screen_name
from coldfuse.core.serialization import blob_digest
from coldfuse.core.words import printable
from coldfuse.engine.low_rank import LowRank
from coldfuse.engine.operands import delta_operands
from coldfuse.engine.tied import Tied, check_changes
from coldfuse.engine.variances import Variances
from coldfuse.errors import CodecError, ContributionRejectedError, DamagedObjectError, SchemaMismatchError
from coldfuse.registry.objects import Objects, SeenObjects
from coldfuse.tensors.checks import checks_of
from coldfuse.tensors.deltas import check_delta, mask_of
from coldfuse.tensors.files import BlobFile
from coldfuse.tensors.header import Header, read_header
from coldfuse.tensors.masks import check_mask
from coldfuse.tensors.said_encodings import class_of
from coldfuse.tensors.stores import federation_store
from coldfuse.tensors.tensor_file import TensorFile

# Faults of the contributor's, which become the reason of a rejection.
_REASONS = (CodecError, SchemaMismatchError, ContributionRejectedError)


@dataclass(frozen=True, kw_only=True)
class Screening:
    """What the screenings of a round share; small, because every task is sent it."""

    store_url: str
    round: int
    """The round's number."""
    opened: Opened
    """The entry that opened the round, which names its base."""
    schema: Schema
    """Every tensor's dtype and shape in the base."""
    tied: Tied = field(default_factory=dict)
    """The tensor that each copy among the base's tensors is a copy of: a delta that has both must have them alike."""
    products: tuple[LowRank, ...] = ()
    """The modules of a shared LoRA: their factors are measured as the change of a product."""
    variances: Variances = field(default_factory=dict)
    """The base's running variances, which no delta may make negative."""
    max_header_bytes: int
    """Size of the longest header that is read: a delta names at most the base's tensors, each with its encoding, and
    twice in what is stored of it."""
    is_dry: bool = False
    """True to look only: no checks are stored, and what is damaged stays where it is, and is raised."""

    def meter(self) -> Meter:
        """Return what measures one delta."""
        return Meter(LayerGroups(self.schema), seed=self.opened.sketch_seed or self.opened.base_digest)


def screen(screening: Screening, received: tuple[str, str]) -> Admission | Rejection | Damage:
    """Judge one received contribution: what a task of the screening does.

    What the store has damaged of it is moved out of the way, so that it can be sent again; that is no verdict.

    Args:
        screening: What the round asks for.
        received: The contribution's digest, and the contributor that it was received from.

    Raises:
        StorageError: The store is away, which is no verdict on the contribution.
        DamagedObjectError: Something of it is damaged, and nothing is to be moved.
    """
    digest, contributor = received
    objects = (SeenObjects if screening.is_dry else Objects)(federation_store(screening.store_url))
    manifest: ContributionManifest | None = None
    try:
        manifest = objects.get_value(ContributionManifest, digest)
        if reason := screen_manifest(manifest, screening.opened, screening.round):
            raise ContributionRejectedError(reason)
        if manifest.contributor != contributor:
            raise ContributionRejectedError(f"its manifest names {manifest.contributor}, it came from {contributor}")
        if manifest.delta_digest != blob_digest(manifest.delta):  # it decides the order of sums and the random masks
            raise ContributionRejectedError(
                "its manifest has a digest that is not its delta's; upload it with coldfuse"
            )
        measured, checks = _check_delta(screening, objects, manifest, digest)
        statistics = _check_statistics(screening, objects, manifest)
    except _REASONS as error:
        return _rejection(digest, contributor, manifest, bounded(str(error)))
    except DamagedObjectError as error:
        if screening.is_dry:
            raise
        return find_damages(objects, digest, manifest.files if manifest else None, error)
    return Admission(
        contribution=digest, contributor=manifest.contributor, display_name=manifest.display_name,
        delta_digest=manifest.delta_digest, num_examples=manifest.num_examples,
        score=manifest.score.quality if manifest.score else None, measured=measured, checks=checks,
        reason=_why_right(screening, statistics), statistics=statistics,
        base_release=manifest.base_release if manifest.base_release != screening.opened.base_release else None,
        is_named=manifest.is_named or None, edit=manifest.edit,
    )  # fmt: skip


def _check_statistics(
    screening: Screening, objects: Objects, manifest: ContributionManifest
) -> AdmittedStatistics | None:
    """Check what came beside the delta; None where nothing came, or nobody asks for it."""
    wanted = screening.opened.statistics.wanted
    if wanted is None or manifest.statistics is None:  # one that is required was asked for before
        return None
    return check_brought(
        objects, manifest, screening.schema, wanted, max_header_bytes=screening.max_header_bytes
    )  # fmt: skip


def _why_right(screening: Screening, statistics: AdmittedStatistics | None) -> str:
    reason = "base, schema, digests and finiteness are right"
    if statistics is not None:
        return f"{reason}, and so are its {statistics.kind} statistics"
    if screening.opened.statistics.wanted is not None:
        return f"{reason}; it brought no statistics, and counts like one whose data say the same of everything"
    return reason


def _rejection(digest: str, contributor: str, manifest: ContributionManifest | None, reason: str) -> Rejection:
    is_theirs = manifest is not None and manifest.contributor == contributor and screen_name(manifest) is None
    name = manifest.display_name if manifest is not None and is_theirs else None
    return Rejection(contribution=digest, contributor=contributor, display_name=name, reason=reason)


def _check_delta(
    screening: Screening, objects: Objects, manifest: ContributionManifest, digest: str
) -> tuple[Measured, str | None]:
    """Check a delta's header and its numbers; return what was measured, and the name of what it is verified by."""
    reader = objects.open(manifest.delta, what=f"the delta of contribution {digest[:12]}")
    _check_first_part(manifest.delta, screening.max_header_bytes, what="delta")
    header = read_header(
        reader.read_into, file_bytes=manifest.delta.size_bytes, what="delta", limit=screening.max_header_bytes
    )
    mask = _open_mask(screening, objects, manifest, header)
    encoded = check_delta(
        header, screening.schema, base_digest=manifest.base_digest, what="delta", mask=mask.header if mask else None
    )
    _check_encoding(header, manifest)
    factors = frozenset(name for product in screening.products for name in product.names)
    values = Values(screening.schema, screening.opened.screening, screening.meter(), factors, screening.variances)
    checks = objects.put_checks(check_parts(header, manifest.delta, reader, values))
    file = TensorFile(BlobFile(screening.store_url, manifest.delta, "delta", checks_of(manifest.delta, checks)), header)
    check_expanded(file, mask, encoded, values)
    if factors:
        changes = delta_operands(file, encoded, screening.schema, {}, mask=mask)
        check_products(screening.products, changes, values.rules, values.meter)
    measured = values.meter.measured(f"{manifest.trained}, {class_of(encoded)}")
    if reason := screen_change(measured, screening.opened.screening):
        raise ContributionRejectedError(f"delta: {reason}")
    check_changes(file, encoded, screening.tied, what="delta", mask=mask)
    return measured, checks


def _open_mask(
    screening: Screening, objects: Objects, manifest: ContributionManifest, delta: Header
) -> TensorFile | None:
    """Return the mask that a delta names; None where it names none."""
    digest, mask = mask_of(delta), manifest.mask
    if digest is None and mask is None:
        return None
    if mask is None or digest != blob_digest(mask):
        got = "none" if mask is None else blob_digest(mask)[:12]
        raise ContributionRejectedError(
            f"delta: made for the mask {(digest or 'none')[:12]}, its manifest brings {got}; upload it with coldfuse"
        )
    _check_first_part(mask, screening.max_header_bytes, what="mask")
    reader = objects.open(mask, what="a mask")
    header = read_header(
        reader.read_into, file_bytes=mask.size_bytes, what="mask", limit=screening.max_header_bytes
    )  # fmt: skip
    check_mask(header, screening.schema, what="mask")  # before any of it is read: it could be of any size
    lists = check_parts(header, mask, reader)
    return TensorFile(BlobFile(screening.store_url, mask, "mask", checks_of(mask, objects.put_checks(lists))), header)


def bounded(reason: str) -> str:
    """Bound a reason, and keep what a contributor put into it from acting on the terminal that shows it."""
    return printable(reason[:2000], instead=" ")


def _check_first_part(blob: Blob, max_header_bytes: int, *, what: str) -> None:
    """Refuse what would have to be read whole to see that its header is too long."""
    first = blob.parts[0].size_bytes if blob.parts else 0
    if first > max_header_bytes:
        raise CodecError(f"{what}: its header claims {first:,} bytes, at most {max_header_bytes:,} are taken")


def _check_encoding(header: Header, manifest: ContributionManifest) -> None:
    for name, spec in header.schema.items():
        if spec.dtype not in (manifest.encoding, "U8"):  # bytes are indices: that there are no others is known
            raise ContributionRejectedError(
                f"delta: tensor {name[:200]!r} is in {spec.dtype}, the manifest says {manifest.encoding}; "
                "upload it with coldfuse"
            )
