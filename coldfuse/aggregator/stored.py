"""What is read again of a contribution that was admitted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from coldfuse.aggregator.checking import MakeChecks, needs_checks
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Admission
from coldfuse.core.serialization import blob_digest
from coldfuse.core.value import Digest, Value
from coldfuse.errors import DamagedObjectError
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checks import checks_of
from coldfuse.tensors.files import BlobFile

_PARALLEL_READS = 16
"""Number of small objects that are read at a time."""


class StoredStatistics(Value):
    """The same of its statistics."""

    file: Blob
    digest: Digest


class Stored(Value):
    """What is read of a manifest again: all else was checked when it was screened, maybe by an older version."""

    contributor: str
    delta: Blob
    delta_digest: Digest
    num_examples: Annotated[int, Field(strict=False)]
    """Number of examples, as it was claimed."""
    base_digest: Digest
    mask: Blob | None = None
    statistics: StoredStatistics | None = None

    @property
    def files(self) -> tuple[Blob, ...]:
        """All files that travelled with it."""
        others = (self.mask, self.statistics.file if self.statistics else None)
        return self.delta, *(blob for blob in others if blob is not None)


@dataclass(frozen=True)
class Files:
    """A contribution's delta and its statistics, with what they are verified by."""

    stored: Stored
    delta: BlobFile
    mask: BlobFile | None
    statistics: BlobFile | None


def read_files(federation: Federation, ordered: Sequence[Admission], check: MakeChecks | None) -> list[Files]:
    """Return the contributions' files with what they are verified by.

    Args:
        federation: Where they lie.
        ordered: The contributions.
        check: Makes the checks of files that have none, those of older versions; None: their parts are read whole.
    """
    make = check or _no_checks
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        found = list(pool.map(lambda a: _stored_of(federation, a), ordered))
    blobs, roots = [stored.delta for stored in found], [admission.checks for admission in ordered]
    without = [i for i, blob in enumerate(blobs) if roots[i] is None and needs_checks(blob)]
    for index, root in zip(without, make([blobs[i] for i in without]), strict=True):
        roots[index] = root
    names = [f"the contribution of {a.contributor} ({a.contribution[:12]})" for a in ordered]
    url = federation.store.url
    files = [BlobFile(url, b, name, checks_of(b, root)) for b, root, name in zip(blobs, roots, names, strict=True)]
    masks = _masks(federation, found, make)
    return [
        Files(
            stored, file, masks.get(blob_digest(stored.mask)) if stored.mask else None,
            _statistics_of(url, admission, stored, name),
        )
        for stored, file, admission, name in zip(found, files, ordered, names, strict=True)
    ]  # fmt: skip


def _no_checks(files: Sequence[Blob]) -> list[str | None]:
    return [None] * len(files)


def _masks(federation: Federation, found: Sequence[Stored], make: MakeChecks) -> dict[str, BlobFile]:
    """Return the masks that contributions name, by their digests; each is verified once, however many name it."""
    blobs = {blob_digest(stored.mask): stored.mask for stored in found if stored.mask}
    roots, url = make(list(blobs.values())), federation.store.url
    return {
        digest: BlobFile(url, blob, f"the mask {digest[:12]}", checks_of(blob, root))
        for (digest, blob), root in zip(blobs.items(), roots, strict=True)
    }


def _statistics_of(url: str, admission: Admission, stored: Stored, name: str) -> BlobFile | None:
    """Return the file of the statistics that a contribution was admitted with; the manifest must agree with that."""
    used, there = admission.statistics, stored.statistics
    if used is None:
        return None
    if there is None or there.digest != used.digest:
        raise DamagedObjectError(
            f"{url}: the journal has admitted contribution {admission.contribution[:12]} with other statistics than "
            "its manifest names; restore the journal from a copy of the store"
        )
    return BlobFile(url, there.file, f"the statistics of {name}", checks_of(there.file, used.checks))


def _stored_of(federation: Federation, admission: Admission) -> Stored:
    """Read a contribution's manifest, which the journal must agree with: a bit of that may have flipped, too.

    Raises:
        DamagedObjectError: The manifest is damaged, or the journal says something else.
    """
    stored = federation.objects.get_value(Stored, admission.contribution)
    own = stored.contributor, stored.delta_digest, stored.num_examples
    if own != (admission.contributor, admission.delta_digest, admission.num_examples):
        raise DamagedObjectError(
            f"{federation.store.url}: the journal has admitted contribution {admission.contribution[:12]} with other "
            f"facts than its manifest has ({', '.join(map(str, own))}); restore the journal from a copy of the store"
        )
    return stored
