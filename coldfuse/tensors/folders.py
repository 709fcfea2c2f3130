"""A folder of files: on this machine, a prefix in S3, or the files of a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coldfuse.core.model_files import NESTED_MODEL_FILES
from coldfuse.errors import UserInputError
from coldfuse.tensors.files import BlobFile, File, LocalFile, ObjectFile, find_object
from coldfuse.tensors.stores import S3_SCHEME, split_url, store_at

Location = Path | str
"""A local path, or `s3://BUCKET/PREFIX`."""


class Folder(Protocol):
    """A folder's files, by their names."""

    def find(self, name: str) -> File | None:
        """Return a file; None if there is none of this name."""

    def names(self) -> set[str]:
        """List the files that may belong to a model: those here, and the few kinds that lie a folder down."""

    def __str__(self) -> str:
        """Return where the folder lies."""


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine."""

    path: Path

    def find(self, name: str) -> LocalFile | None:
        """Return a file; None if there is none of this name."""
        file = self.path / name
        return LocalFile(file) if file.is_file() else None

    def names(self) -> set[str]:
        """List the files that may belong to a model."""
        nested = (file for pattern in NESTED_MODEL_FILES for file in self.path.glob(pattern))
        found = (*self.path.glob("*"), *nested)
        return {file.relative_to(self.path).as_posix() for file in found if file.is_file()}

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class RemoteFolder:
    """A prefix in S3."""

    url: str

    def find(self, name: str) -> ObjectFile | None:
        """Return an object; None if there is none of this name."""
        return find_object(self.url, name)

    def names(self) -> set[str]:
        """List what lies under the prefix."""
        store, found = store_at(self.url), set[str]()
        page = store.list("")
        found.update(page.keys)
        while page.next_after is not None:
            page = store.list("", after=page.next_after)
            found.update(page.keys)
        return found

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class ReleaseFolder:
    """The files of a release, which lie in parts."""

    where: str
    """Name of the release, for people."""
    files: Mapping[str, BlobFile]

    def find(self, name: str) -> BlobFile | None:
        """Return a file; None if there is none of this name."""
        return self.files.get(name)

    def names(self) -> set[str]:
        """List the files."""
        return set(self.files)

    def __str__(self) -> str:
        return self.where


def is_remote(where: Location) -> bool:
    """Tell whether this names something in S3."""
    return isinstance(where, str) and where.startswith(S3_SCHEME)


def folder_at(where: Location) -> Folder:
    """Return the folder or prefix at a location; nothing is read yet.

    Raises:
        UserInputError: The location names a bucket alone.
    """
    if not is_remote(where):
        return LocalFolder(Path(where))
    url = str(where).rstrip("/")
    split_url(f"{url}/file")  # refuses what names no bucket and prefix
    return RemoteFolder(url)


def existing(folder: Folder, name: str) -> File:
    """Return a file of a folder. Raises `UserInputError` if there is none of this name."""
    found = folder.find(name)
    if found is None:
        raise UserInputError(f"{folder}/{name}: there is no such file")
    return found
