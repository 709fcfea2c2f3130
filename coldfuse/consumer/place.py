"""Where a part of a release comes to lie, and how much of it an interrupted download has left there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from coldfuse.consumer.folder import read_if_there
from coldfuse.core.blob import Part
from coldfuse.durable import explained


@dataclass(frozen=True, kw_only=True)
class Place:
    """One part of one file, and where its bytes may lie already."""

    part: Part
    target: Path
    start: int
    mark: Path
    """File that says how many of its bytes lie in the target."""
    candidates: tuple[tuple[Path, int], ...]
    """Files and offsets at which its bytes may lie."""

    def resume(self, data: memoryview) -> int:
        """Read the pieces that an interrupted download left, and return how many bytes they are."""
        try:
            done = int(self.mark.read_bytes())
        except (OSError, ValueError):
            return 0
        is_there = 0 < done < len(data) and read_if_there(self.target, self.start, data[:done])
        return done if is_there else 0

    def write(self, data: memoryview, offset: int) -> None:
        """Write some bytes of the part, and note how far it has come."""
        with explained(self.target), open(self.target, "r+b") as file:
            file.seek(self.start + offset)
            file.write(data)
            file.flush()  # the note comes after the bytes; should a power cut undo that, the digest tells
            self.mark.write_text(str(offset + len(data)))
