"""What a frozen body makes of texts, kept on the disk: computed once for a model, data and settings.

An entry is a safetensors file that is named by the digest of what decides its numbers, and says their SHA-256: by that
one that is damaged is found, and computed again. The folder is bounded: what was not asked for longest goes first.

Shape letters: N texts, H features.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from coldfuse.core.schema import TensorSpec
from coldfuse.durable import explained, writing_whole
from coldfuse.errors import CodecError, UserInputError
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.header import format_header
from coldfuse.tensors.tensor_file import read_file_header

_LOG = logging.getLogger(__name__)
_NAME, _DIGEST = "features", "coldfuse.sha256"


@dataclass(frozen=True, kw_only=True)
class FeatureCache:
    """Features in a folder."""

    folder: Path
    """Where they lie."""
    max_bytes: int = 2 << 30
    """Bytes that they take together, at most."""

    def get(self, key: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return the features of a key, shape (N, H), float32 on the CPU; compute and keep those that are not there.

        Args:
            key: Digest of all that decides them.
            compute: Makes them.

        Raises:
            UserInputError: The folder cannot be written.
        """
        path = self.folder / f"{key}.safetensors"
        found = _read(path)
        if found is not None:
            _touch(path)
            return found
        made = compute().detach().cpu().float().contiguous()
        if made.numel() * 4 <= self.max_bytes:
            _write(path, made)
            self._shrink(keep=path)
        return made

    def _shrink(self, *, keep: Path) -> None:
        """Remove what was not asked for longest, until the rest fits."""
        entries = []
        for path in self.folder.glob("*.safetensors"):
            try:
                said = path.stat()
            except FileNotFoundError:  # another process has removed it
                continue
            entries.append((path == keep, said.st_mtime_ns, said.st_size, path))
        total = sum(size for _, _, size, _ in entries)
        for is_kept, _, size, path in sorted(entries):
            if total <= self.max_bytes or is_kept:
                return
            path.unlink(missing_ok=True)
            total -= size


def _read(path: Path) -> Tensor | None:
    """Return what a file holds; None where there is none, or one that is not as it was written."""
    if not path.is_file():
        return None
    try:
        header = read_file_header(path)
        (entry,) = header.tensors
        if entry.spec.dtype != "F32" or len(entry.spec.shape) != 2:
            raise CodecError(f"holds {entry.spec.dtype} of shape {list(entry.spec.shape)}")
        raw = np.empty(entry.spec.size_bytes, np.uint8)
        with LocalFile(path).open() as file:
            file.read_into(raw.data, entry.start)
        if hashlib.sha256(raw.data).hexdigest() != header.metadata.get(_DIGEST):
            raise CodecError("its SHA-256 is not the one that it says")
    except (CodecError, UserInputError, OSError, ValueError) as error:
        _LOG.warning("%s: damaged (%s); its features are computed again", path, error)
        return None
    return torch.from_numpy(raw.view(np.float32)).reshape(entry.spec.shape)


def _write(path: Path, features: Tensor) -> None:
    raw = features.numpy().tobytes()
    spec = TensorSpec(dtype="F32", shape=tuple(features.shape))
    own = path.with_name(f"{uuid4().hex}.safetensors")  # several workers may make the same features at once
    with explained(path):
        with writing_whole(own) as file:
            file.write(format_header([(_NAME, spec)], {_DIGEST: hashlib.sha256(raw).hexdigest()}))
            file.write(raw)
        os.replace(own, path)


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:  # it is only asked for less often than it seems
        pass
