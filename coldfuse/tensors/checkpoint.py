"""A checkpoint: the files of a model, wherever they lie: a folder on this machine, a prefix in S3, or a release."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coldfuse.core.model_files import INDEX
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.schema import Schema
from coldfuse.errors import UserInputError
from coldfuse.tensors.contents import content_digest
from coldfuse.tensors.files import BlobFile, File, LocalFile, ObjectFile, find_object, read_bytes
from coldfuse.tensors.folders import Folder, LocalFolder, Location, ReleaseFolder, existing, folder_at, is_remote
from coldfuse.tensors.header import Header, TensorEntry
from coldfuse.tensors.index import check_index, check_owners, choose_plain_files, choose_weight_files
from coldfuse.tensors.stores import split_url
from coldfuse.tensors.tensor_file import TensorFile, open_tensors

Place = tuple[TensorFile, TensorEntry]
"""A tensor: the file that holds it, and where it lies there."""

_REQUESTS_AT_A_TIME = 16
"""Number of objects that are asked for at a time: a request is mostly waiting."""

_MAX_PLAIN_BYTES = 1 << 30
"""Maximum size of a configuration or tokenizer file, which is held in memory."""


@dataclass(frozen=True)
class Checkpoint:
    """A model: its safetensors files, and the other files that belong to it."""

    folder: Folder
    """Where all files lie, also those that are no part of the model."""
    files: Mapping[str, TensorFile]
    """Safetensors files by their names, relative to the folder."""
    plain: tuple[str, ...]
    """Names of the configuration, tokenizer and other files that belong to the model."""
    known_digest: str | None = None
    """The model digest, where it is known without reading the tensors."""

    @property
    def headers(self) -> Mapping[str, Header]:
        """The header of each safetensors file."""
        return {name: file.header for name, file in self.files.items()}

    @cached_property
    def schema(self) -> Schema:
        """Every tensor's dtype and shape, over all files."""
        return {name: entry.spec for name, (_, entry) in self.places.items()}

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Where each tensor lies."""
        return places_of(self.files.values())

    @cached_property
    def config(self) -> Mapping[str, object]:
        """The content of `config.json`; empty if there is none, or it is no object.

        Raises:
            UserInputError: The file is not JSON.
        """
        try:
            config = json.loads(self.read("config.json") or b"{}")
        except (ValueError, RecursionError) as error:
            raise UserInputError(f"{self.folder}/config.json: not JSON: {error}") from error
        return config if isinstance(config, dict) else {}

    def digest(self) -> str:
        """Return the model digest; unless it is known, the first call reads and hashes every tensor."""
        return self._digest if self.known_digest is None else self.known_digest

    @cached_property
    def _digest(self) -> str:
        return content_digest(list(self.files.values()))

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file of the folder; None if there is no such file.

        Raises:
            UserInputError: The file is too large to be a configuration or a tokenizer, or cannot be read.
        """
        file = self.folder.find(name)
        if file is not None and file.size_bytes > _MAX_PLAIN_BYTES:
            raise UserInputError(f"{file}: {file.size_bytes:,} bytes are no configuration or tokenizer; remove it")
        return None if file is None else read_bytes(file)


def open_checkpoint(where: Location) -> Checkpoint:
    """Read the headers of a model folder.

    Args:
        where: A Hugging Face model folder, or a prefix in S3 with the same files.

    Returns:
        The model's files; no tensor is read.

    Raises:
        UserInputError: There is no model folder, or not all of one.
        CodecError: A file is no safetensors file, or cut off.
        SchemaMismatchError: Two files hold a tensor of the same name.
    """
    folder = folder_at(where)
    if isinstance(folder, LocalFolder) and not folder.path.is_dir():
        raise UserInputError(f"{folder}: expected a Hugging Face model folder, and there is no such folder")
    names, what = folder.names(), str(folder)
    if "config.json" not in names:
        raise UserInputError(f"{what}: expected a Hugging Face model folder, but it has no config.json")
    found = choose_weight_files(names, lambda name: read_bytes(existing(folder, name)), what)
    files = open_all({name: existing(folder, name) for name in found})
    check_owners({name: file.header for name, file in files.items()}, what)
    if INDEX in names:
        check_index(read_bytes(existing(folder, INDEX)), [file.header for file in files.values()], what)
    return Checkpoint(folder, files, choose_plain_files(names, what))


def open_release(store_url: str, release: ReleaseManifest) -> Checkpoint:
    """Read the headers of a release's safetensors files.

    Args:
        store_url: The federation's store.
        release: The release's manifest.

    Returns:
        The release's files, which lie in parts; its digest is known.
    """
    blobs = {path: BlobFile(store_url, blob, path) for path, blob in release.files.items()}
    files = open_all({path: blob for path, blob in blobs.items() if path.endswith(".safetensors")})
    plain = tuple(path for path in blobs if path not in files)
    folder = ReleaseFolder(f"release {release.release}", blobs)
    return Checkpoint(folder, files, plain, known_digest=release.model_digest)


def open_all(files: Mapping[str, File]) -> dict[str, TensorFile]:
    """Read the headers of safetensors files, several at a time where a request costs a round trip.

    Raises as `open_tensors`.
    """
    if not any(file.is_remote for file in files.values()):
        return {name: open_tensors(file) for name, file in files.items()}
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        return dict(zip(files, pool.map(open_tensors, files.values()), strict=True))


def open_tensors_at(where: Location) -> TensorFile:
    """Open a safetensors file of its own, such as a delta or statistics.

    Raises:
        UserInputError: There is no such file, or it cannot be read.
        CodecError: It is no safetensors file, or cut off.
    """
    return open_tensors(LocalFile(Path(where)) if not is_remote(where) else _existing_object(str(where)))


def open_checkpoint_or_tensors(where: Location) -> Checkpoint | TensorFile:
    """Open what may be a model folder or a safetensors file of its own; raises as `open_checkpoint`."""
    if is_remote(where):
        found = find_object(*split_url(str(where)))  # S3 has no folders: what is no object may be a prefix
        return open_tensors(found) if found else open_checkpoint(where)
    return open_checkpoint(where) if Path(where).is_dir() else open_tensors_at(where)


def require_unchanged(files: Collection[File]) -> None:
    """Raise `StorageError` if an object among these files was replaced since it was opened.

    Parts are named by their bytes and cannot be replaced; local files are the user's own to leave alone.
    """
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        list(pool.map(ObjectFile.require_unchanged, [file for file in files if isinstance(file, ObjectFile)]))


def places_of(files: Collection[TensorFile]) -> dict[str, Place]:
    """Return where each tensor of some files lies."""
    return {entry.name: (file, entry) for file in files for entry in file.header.tensors}


def _existing_object(url: str) -> ObjectFile:
    found = find_object(*split_url(url))
    if found is None:
        raise UserInputError(f"{url}: there is no such object")
    return found
