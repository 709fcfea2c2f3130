"""What is read again of a contribution that was admitted."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.blob import Blob
from coldfuse.core.value import Digest, Value


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
