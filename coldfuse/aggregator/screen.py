"""Screen one contribution, cheapest check first: manifest, header against the base, then every byte.

The last step reads each part once: its digest must be the one it is named by, and every number must be finite. A
contribution that fails is rejected with a sentence for its contributor; it never stops the round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coldfuse.aggregator.mending import find_damages
from coldfuse.aggregator.meter import LayerGroups, Meter
from coldfuse.aggregator.screen_statistics import check_brought
from coldfuse.core.contribution import Admission, AdmittedStatistics, ContributionManifest, Measured, Rejection
from coldfuse.core.damage import Damage
from coldfuse.core.dtypes import SAFE_CHANGE, Floats, to_floats
from coldfuse.core.round import Opened
from coldfuse.core.schema import Schema
from coldfuse.core.screening import screen_change, screen_manifest, screen_name
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.core.serialization import blob_digest
from coldfuse.core.words import printable
from coldfuse.engine.tied import Tied, check_changes
from coldfuse.errors import CodecError, ContributionRejectedError, DamagedObjectError, SchemaMismatchError
from coldfuse.fusion.apply import surely_finite
from coldfuse.registry.objects import Objects
from coldfuse.tensors.checks import checks_of, make_list
from coldfuse.tensors.deltas import check_delta
from coldfuse.tensors.encodings import DENSE, Encoded, class_of, part_name
from coldfuse.tensors.files import BlobFile
from coldfuse.tensors.header import Header, read_header
from coldfuse.tensors.parts import PartLayout, plan_parts
from coldfuse.tensors.stores import federation_store
from coldfuse.tensors.tensor_file import TensorFile
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.tensors.verified import VerifiedReader

_RUN_ELEMENTS = 1 << 18
"""Number of elements that are expanded at a time: 2 MiB."""

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
    max_header_bytes: int
    """Size of the longest header that is read: a delta names at most the base's tensors, each with its encoding."""

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
    """
    digest, contributor = received
    objects = Objects(federation_store(screening.store_url))
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
        return find_damages(objects, digest, manifest.files if manifest else None, error)
    return Admission(
        contribution=digest, contributor=manifest.contributor, display_name=manifest.display_name,
        delta_digest=manifest.delta_digest, num_examples=manifest.num_examples,
        score=manifest.score.after if manifest.score else None, measured=measured, checks=checks,
        reason=_why_right(screening, statistics), statistics=statistics,
        base_release=manifest.base_release if manifest.base_release != screening.opened.base_release else None,
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
    _check_first_part(manifest, screening.max_header_bytes)
    header = read_header(
        reader.read_into, file_bytes=manifest.delta.size_bytes, what="delta", limit=screening.max_header_bytes
    )
    encoded = check_delta(header, screening.schema, base_digest=manifest.base_digest, what="delta")
    _check_encoding(header, manifest)
    values = _Values(screening.schema, screening.opened.screening, screening.meter())
    checks = objects.put_checks(_check_parts(header, manifest, reader, values))
    file = TensorFile(BlobFile(screening.store_url, manifest.delta, "delta", checks_of(manifest.delta, checks)), header)
    _check_expanded(file, encoded, values)
    measured = values.meter.measured(f"{manifest.trained}, {class_of(encoded)}")
    if reason := screen_change(measured, screening.opened.screening):
        raise ContributionRejectedError(f"delta: {reason}")
    check_changes(file, encoded, screening.tied, what="delta")
    return measured, checks


def bounded(reason: str) -> str:
    """Bound a reason, and keep what a contributor put into it from acting on the terminal that shows it."""
    return printable(reason[:2000], instead=" ")


def _check_first_part(manifest: ContributionManifest, max_header_bytes: int) -> None:
    """Refuse what would have to be read whole to see that its header is too long."""
    first = manifest.delta.parts[0].size_bytes if manifest.delta.parts else 0
    if first > max_header_bytes:
        raise CodecError(f"delta: its header claims {first:,} bytes, at most {max_header_bytes:,} are taken")


def _check_encoding(header: Header, manifest: ContributionManifest) -> None:
    for name, spec in header.schema.items():
        if spec.dtype != manifest.encoding:
            raise ContributionRejectedError(
                f"delta: tensor {name[:200]!r} is in {spec.dtype}, the manifest says {manifest.encoding}; "
                "upload it with coldfuse"
            )


@dataclass(frozen=True)
class _Values:
    """Looks at a delta's numbers, a part at a time, and measures them."""

    base: Schema
    rules: ScreeningRules
    meter: Meter

    def check_part(self, layout: PartLayout, data: bytes) -> None:
        """Look at what a part holds element by element; what has to be expanded is looked at then."""
        for piece in layout.pieces:
            if piece.tensor.name in self.base:
                start = piece.start - layout.start
                raw = np.frombuffer(data, np.uint8, count=piece.num_bytes, offset=start)
                self.check(piece.tensor.name, piece.first, to_floats(raw, piece.tensor.spec.dtype))

    def check(self, name: str, first: int, values: Floats) -> None:
        """Raise `ContributionRejectedError` for numbers that no training makes; measure what it could have made."""
        _check_values(name, values, self.base[name].dtype, self.rules)
        self.meter.add(name, first, values)


def _check_parts(
    header: Header, manifest: ContributionManifest, reader: VerifiedReader, values: _Values
) -> list[bytes]:
    """Look at every number; return the list of checks of each part, which is read whole."""
    layouts = plan_parts(header)
    if [layout.size_bytes for layout in layouts] != [part.size_bytes for part in manifest.delta.parts]:
        raise ContributionRejectedError("delta: not cut into parts along its tensors; upload it with coldfuse")
    lists = []
    for layout in layouts:
        data = reader.read(layout.start, layout.size_bytes)  # it has the SHA-256 that it is named by
        lists.append(make_list(data))
        values.check_part(layout, data)
    return lists


def _check_expanded(file: TensorFile, encoded: Mapping[str, Encoded], values: _Values) -> None:
    """Look at every number of what is not stored element by element, a run at a time."""
    with TensorReader([file]) as reader:
        for name, how in encoded.items():
            if how is DENSE:
                continue
            spec = values.base[name]

            def read(part: str, first: int, count: int, name: str = name) -> NDArray[np.float64]:
                return reader.floats(part_name(name, part), first, count)

            for first in range(0, spec.num_elements, _RUN_ELEMENTS):
                count = min(_RUN_ELEMENTS, spec.num_elements - first)
                values.check(name, first, how.delta(spec.shape, read, first, count))


def _check_values(tensor: str, values: Floats, dtype: str, rules: ScreeningRules) -> None:
    name = repr(tensor[:200])
    if not surely_finite(values):  # finite float32 cannot overflow a float64 sum
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise ContributionRejectedError(
            f"delta: tensor {name} has {bad} values that are NaN or infinite; "
            "did the training diverge? lower the learning rate"
        )
    largest = max(float(values.max()), -float(values.min()))
    if largest >= SAFE_CHANGE[dtype]:  # else the fused model could overflow, and stop the round for everybody
        raise ContributionRejectedError(
            f"delta: tensor {name} has a change of {largest:g}, the base is {dtype} and takes less than "
            f"{SAFE_CHANGE[dtype]:g}; did the training diverge? lower the learning rate"
        )
    if rules.is_on and largest >= rules.max_change:
        raise ContributionRejectedError(
            f"delta: tensor {name} has a change of {largest:g}, less than {rules.max_change:g} is taken; did the "
            "training diverge? lower the learning rate"
        )
