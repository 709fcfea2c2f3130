"""A checkpoint: the files of a model, wherever they lie: a folder on this machine, a prefix in S3, or a release."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from coldfuse.core.left_out import LeftOut
from coldfuse.core.model_files import folder_of, why_left_out
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode
from coldfuse.core.shared_module import MODULE_FILE, SharedModule
from coldfuse.errors import UserInputError
from coldfuse.tensors.checks import checks_of
from coldfuse.tensors.composed import sources_of
from coldfuse.tensors.contents import content_digest
from coldfuse.tensors.custom_code import CustomCode, find_code
from coldfuse.tensors.files import BlobFile, File, LocalFile, ObjectFile, find_object
from coldfuse.tensors.folders import (
    Folder,
    LocalFolder,
    Location,
    OneFile,
    ReleaseFolder,
    SubFolder,
    existing,
    folder_at,
    is_remote,
)
from coldfuse.tensors.header import Header, TensorEntry
from coldfuse.tensors.index import check_index, check_owners
from coldfuse.tensors.model_folder import Component, find_model, read_json, read_small
from coldfuse.tensors.stores import split_url
from coldfuse.tensors.tensor_file import TensorFile, open_tensors

Place = tuple[TensorFile, TensorEntry]
"""A tensor: the file that holds it, and where it lies there."""

_REQUESTS_AT_A_TIME = 16
"""Number of objects that are asked for at a time: a request is mostly waiting."""


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
    components: tuple[Component, ...] = ()
    """The folders that make the model; none where the files alone are known."""
    others: tuple[str, ...] = ()
    """Names of what lies beside and does not belong to the model; a folder's ends with a slash."""
    converted: tuple[LeftOut, ...] = ()
    """What is left out as its tensors are read otherwise than they lie; it names no model."""
    is_untied: bool = False
    """True if a head that lies there only as the embedding is read as a tensor of its own."""

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
        config = read_json(self.folder, "config.json")
        return config if isinstance(config, dict) else {}

    @cached_property
    def module(self) -> SharedModule | None:
        """What it is a module of, and on whose body; None for a whole model.

        Raises:
            CodecError: The file that says so is malformed.
        """
        found = read_small(self.folder, MODULE_FILE, most=MAX_MANIFEST_BYTES) if MODULE_FILE in self.plain else None
        return None if found is None else decode(SharedModule, found, what=f"{self.folder}/{MODULE_FILE}")

    @property
    def is_one_file(self) -> bool:
        """True for a file that lies in no model's folder."""
        return isinstance(self.folder, OneFile)

    @property
    def folders(self) -> frozenset[str]:
        """The folders that hold tensors; "" for the model's own."""
        return frozenset(folder_of(name) for name in self.files)

    def within(self, folder: str) -> Checkpoint:
        """Return a model without folders as if it lay in one of another model's."""
        files = {folder + name: TensorFile(file.file, file.header.within(folder)) for name, file in self.files.items()}
        return replace(self, files=files, known_digest=None)

    def component(self, folder: str) -> Checkpoint:
        """Return what lies in one of its folders, with the configuration and by the names that it has there."""
        if self.folders == {folder} == {""}:
            return self
        files = {
            name.removeprefix(folder): TensorFile(file.file, file.header.without(folder))
            for name, file in self.only([folder]).files.items()
        }
        return replace(self, folder=SubFolder(self.folder, folder), files=files, known_digest=None)

    def only(self, folders: Collection[str]) -> Checkpoint:
        """Return what some of its folders hold, as a model."""
        files = {name: file for name, file in self.files.items() if folder_of(name) in folders}
        return replace(self, files=files, known_digest=self.known_digest if len(files) == len(self.files) else None)

    @cached_property
    def code(self) -> CustomCode:
        """The code that its configuration names, which never is run here."""
        return find_code(self.folder, self.plain)

    def with_code(self) -> Checkpoint:
        """Return the model with its code among the files that belong to it."""
        code = set(self.code.found)
        others = tuple(name for name in self.others if name not in code)
        return replace(self, plain=tuple(sorted({*self.plain, *code})), others=others)

    def left_out(self, what: str, *, how: str) -> tuple[LeftOut, ...]:
        """Say by kinds what lies in the folder and goes into no result.

        Args:
            what: The model's name.
            how: How to get a model that can be loaded, where its code is left out.
        """
        converted = self.left_out_as_read(what)
        code = self.code.left_out(what, how=how, is_copied=set(self.code.found) <= set(self.plain))
        kinds: dict[str, list[str]] = {}
        for name in sorted(set(self.others) - {name for item in code for name in item.names}):
            kinds.setdefault(why_left_out(name.removeprefix(folder_of(name.rstrip("/")))), []).append(name)
        return (*converted, *(LeftOut(what, tuple(names), why) for why, names in sorted(kinds.items())), *code)

    def left_out_as_read(self, what: str) -> tuple[LeftOut, ...]:
        """Say what is left out as its tensors are read otherwise than they lie; nothing for most models."""
        return tuple(replace(item, what=what) for item in self.converted)

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
        return read_small(self.folder, name)


def open_checkpoint(where: Location) -> Checkpoint:
    """Read the headers of a model folder.

    Args:
        where: A Hugging Face model folder, or a prefix in S3 with the same files: see `coldfuse.tensors.model_folder`.

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
    found = find_model(folder)
    files = open_all({name: existing(folder, name) for name in found.weights})
    check_owners({name: file.header for name, file in files.items()}, str(folder))
    for component in found.components:
        if component.index:
            held = (entry.name for file in component.files for entry in files[file].header.tensors)
            names = {name.removeprefix(component.folder) for name in held}
            check_index(read_small(folder, component.index) or b"", names, f"{folder}/{component.index}")
    return Checkpoint(folder, files, found.plain, components=found.components, others=found.others)


def open_file(file: TensorFile) -> Checkpoint:
    """Return a safetensors file of its own as a model without a configuration, such as an image model's checkpoint."""
    name = file.file.name.rpartition("/")[2]
    return Checkpoint(OneFile(file.file.name, name, file.file), {name: file}, ())


def open_model(where: Location) -> Checkpoint:
    """Open a model folder, or a model that is one safetensors file; raises as `open_checkpoint`."""
    found = open_checkpoint_or_tensors(where) if str(where).endswith(".safetensors") else open_checkpoint(where)
    return open_file(found) if isinstance(found, TensorFile) else found


def open_release(store_url: str, release: ReleaseManifest) -> Checkpoint:
    """Read the headers of a release's safetensors files.

    Args:
        store_url: The federation's store.
        release: The release's manifest.

    Returns:
        The release's files, which lie in parts; its digest is known.
    """
    blobs = {
        path: BlobFile(store_url, blob, path, checks_of(blob, release.checks.get(path)))
        for path, blob in release.files.items()
    }
    files = open_all({path: blob for path, blob in blobs.items() if path.endswith(".safetensors")})
    plain = tuple(path for path in blobs if path not in files)
    folder = ReleaseFolder(f"release {release.release}", blobs)
    return Checkpoint(folder, files, plain, known_digest=release.model_digest)


def open_all(files: Mapping[str, File]) -> dict[str, TensorFile]:
    """Read the headers of safetensors files, several at a time where a request costs a round trip.

    Raises as `open_tensors`.
    """

    def opened(name: str) -> TensorFile:
        return open_tensors(files[name], within=folder_of(name))

    if not any(file.is_remote for file in files.values()):
        return {name: opened(name) for name in files}
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        return dict(zip(files, pool.map(opened, files), strict=True))


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
    sources = {source for file in files for source in sources_of(file)}
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        list(pool.map(ObjectFile.require_unchanged, [file for file in sources if isinstance(file, ObjectFile)]))


def places_of(files: Collection[TensorFile]) -> dict[str, Place]:
    """Return where each tensor of some files lies."""
    return {entry.name: (file, entry) for file in files for entry in file.header.tensors}


def _existing_object(url: str) -> ObjectFile:
    found = find_object(*split_url(url))
    if found is None:
        raise UserInputError(f"{url}: there is no such object")
    return found
