"""The masks of a node: the elements that it trains over several rounds, and whether a gateway has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coldfuse.core.blob import Blob
from coldfuse.core.serialization import blob_digest
from coldfuse.durable import explained, write_whole
from coldfuse.tensors.deltas import mask_name


@dataclass(frozen=True)
class Masks:
    """A folder of masks, each under the name that its digest gives it."""

    folder: Path

    def path(self, mask: Blob) -> Path:
        """Return the file of a mask."""
        return self.folder / mask_name(blob_digest(mask))

    def is_sent(self, mask: Blob) -> bool:
        """Tell whether a gateway has taken a contribution with this mask: it need not be sent again."""
        return self._note_of(mask).exists()

    def note(self, mask: Blob | None, *, is_sent: bool) -> None:
        """Remember whether a gateway has a mask; None: there is none."""
        if mask is None:
            return
        note = self._note_of(mask)
        with explained(note):
            if is_sent:
                write_whole(note, b"")
            else:
                note.unlink(missing_ok=True)

    def _note_of(self, mask: Blob) -> Path:
        return self.path(mask).with_suffix(".sent")
