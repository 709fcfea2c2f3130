"""Writing a file of statistics."""

from __future__ import annotations

import os
from pathlib import Path

from coldfuse.tensors.deltas import ReadPiece, write_safetensors


def write_statistics_file(path: Path, header: bytes, read: ReadPiece) -> None:
    """Write a file of statistics; it is there whole or not at all."""
    part = path.with_name(path.name + ".part")
    try:
        write_safetensors(part, header, read)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
