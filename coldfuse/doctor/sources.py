"""Where the sound bytes of a damaged object may come from: another store, or a folder with the model's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from coldfuse.core.serialization import sha256
from coldfuse.errors import CodecError, DamagedObjectError, ObjectNotFoundError, UserInputError
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.storage import open_store
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.parts import PartLayout, plan_parts, plan_plain_parts
from coldfuse.tensors.rereading import get_verified
from coldfuse.tensors.tensor_file import open_tensors


class Source(Protocol):
    """Another place that may hold an object."""

    def find(self, digest: str) -> bytes | None:
        """Return the object's bytes, verified; None if they are not there."""

    def named(self, key: str) -> bytes | None:
        """Return what lies under a name of its own; None if nothing does."""

    def __str__(self) -> str:
        """Return its name, for people."""


@dataclass(frozen=True)
class StoreSource:
    """Another store, such as a copy of this one."""

    store: ObjectStore

    def find(self, digest: str) -> bytes | None:
        """Return an object's bytes."""
        for prefix in ("objects/", "damaged/"):
            try:
                return get_verified(self.store, f"{prefix}{digest}", lambda data: sha256(data) == digest)
            except (DamagedObjectError, ObjectNotFoundError):
                continue
        return None

    def named(self, key: str) -> bytes | None:
        """Return what lies under a name of its own."""
        try:
            return self.store.get(key)
        except ObjectNotFoundError:
            return None

    def __str__(self) -> str:
        return self.store.url


@dataclass(frozen=True)
class FolderSource:
    """A folder with files of a model, such as `coldfuse fetch` writes: each is cut as it was for the store."""

    folder: Path

    def find(self, digest: str) -> bytes | None:
        """Return an object's bytes, read again and verified."""
        if digest not in self._parts:
            return None
        path, layout = self._parts[digest]
        data = _read(path, layout)
        return data if sha256(data) == digest else None

    def named(self, key: str) -> bytes | None:  # noqa: ARG002  # a folder holds a model alone
        """Return nothing."""
        return None

    @cached_property
    def _parts(self) -> Mapping[str, tuple[Path, PartLayout]]:
        """Where each part lies, by its digest; all of the folder is read once."""
        found: dict[str, tuple[Path, PartLayout]] = {}
        for path in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            for layout in _layouts(path):
                found[sha256(_read(path, layout))] = path, layout
        return found

    def __str__(self) -> str:
        return str(self.folder)


def open_source(where: str) -> Source:
    """Return a source by what a user calls it: a store, or a folder that is none.

    Raises:
        UserInputError: There is nothing there.
    """
    if "://" not in where and not Path(where).is_dir():
        raise UserInputError(f"--from {where}: expected another store or a folder with the model, and there is none")
    store = open_store(where)
    return StoreSource(store) if store.head(SETTINGS_KEY) or "://" in where else FolderSource(Path(where))


def _layouts(path: Path) -> list[PartLayout]:
    if path.suffix == ".safetensors":
        try:
            return plan_parts(open_tensors(LocalFile(path)).header)
        except CodecError:
            return []
    return plan_plain_parts(path.stat().st_size)


def _read(path: Path, layout: PartLayout) -> bytes:
    data = bytearray(layout.size_bytes)
    with LocalFile(path).open() as file:
        file.read_into(memoryview(data), layout.start)
    return bytes(data)
