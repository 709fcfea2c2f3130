"""A folder of files: on this machine, a prefix in S3, or the files of a release."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from coldfuse.errors import UserInputError
from coldfuse.tensors.files import File, LocalFile, ObjectFile, find_object, readable
from coldfuse.tensors.stores import S3_SCHEME, split_url, store_at

Location = Path | str
"""A local path, or `s3://BUCKET/PREFIX`."""


class Folder(Protocol):
    """A folder's files, by their names."""

    def find(self, name: str) -> File | None:
        """Return a file; None if there is none of this name."""

    def entries(self, place: str) -> set[str]:
        """List what lies in it, or in a folder of it; a folder's name has a slash at its end.

        Args:
            place: "" or the name of a folder, with a slash at its end; names are those in it.
        """

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

    def entries(self, place: str) -> set[str]:
        """List files and folders; see `Folder`."""
        folder = self.path / place
        if not folder.is_dir():
            return set()
        with readable(folder), os.scandir(folder) as found:
            return {f"{entry.name}/" if entry.is_dir() else entry.name for entry in found}

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class RemoteFolder:
    """A prefix in S3."""

    url: str

    def find(self, name: str) -> ObjectFile | None:
        """Return an object; None if there is none of this name."""
        return find_object(self.url, name)

    def entries(self, place: str) -> set[str]:
        """List objects, and what S3 has of folders: what keys begin with."""
        return _entries(self._keys, place)

    @cached_property
    def _keys(self) -> set[str]:
        """All keys under the prefix, as they are when they are asked for first."""
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
    files: Mapping[str, File]

    def find(self, name: str) -> File | None:
        """Return a file; None if there is none of this name."""
        return self.files.get(name)

    def entries(self, place: str) -> set[str]:
        """List files and folders; see `Folder`."""
        return _entries(self.files, place)

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True)
class OneFile:
    """A folder that holds a single file: a checkpoint that lies by itself, wherever that is."""

    where: str
    """The file's name and place, for people."""
    name: str
    file: File

    def find(self, name: str) -> File | None:
        """Return the file under its own name; what else lies beside it is none of its."""
        return self.file if name == self.name else None

    def entries(self, place: str) -> set[str]:
        """List the file."""
        return _entries([self.name], place)

    def __str__(self) -> str:
        return self.where


@dataclass(frozen=True)
class SubFolder:
    """A folder in a folder, as a folder."""

    above: Folder
    place: str
    """Its name, with a slash at its end."""

    def find(self, name: str) -> File | None:
        """Return a file; None if there is none of this name."""
        return self.above.find(self.place + name)

    def entries(self, place: str) -> set[str]:
        """List files and folders; see `Folder`."""
        return self.above.entries(self.place + place)

    def __str__(self) -> str:
        return f"{self.above}/{self.place}".rstrip("/")


@dataclass(frozen=True)
class EditedFolder:
    """A folder of which some files are read as others."""

    above: Folder
    edited: Mapping[str, File]

    def find(self, name: str) -> File | None:
        """Return a file; None if there is none of this name."""
        return self.edited.get(name) or self.above.find(name)

    def entries(self, place: str) -> set[str]:
        """List files and folders; see `Folder`."""
        return self.above.entries(place)

    def __str__(self) -> str:
        return str(self.above)


def _entries(names: Iterable[str], place: str) -> set[str]:
    """Return what lies in a folder, given the names of all files from above it."""
    inside = (name.removeprefix(place) for name in names if name.startswith(place))
    return {f"{head}{slash}" for head, slash, _ in (name.partition("/") for name in inside) if head}


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
