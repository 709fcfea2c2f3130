"""A model folder wherever it lies: on this machine, or as ordinary objects under a prefix in S3."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coldfuse.adapters.adapter import WEIGHTS as ADAPTER_WEIGHTS
from coldfuse.adapters.adapter import is_adapter, no_weights
from coldfuse.adapters.config import CONFIG as ADAPTER_CONFIG
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.engine.files import LocalSource
from coldfuse.engine.folders.contents import FileSource, content_digest
from coldfuse.engine.remote_files import (
    SCHEME,
    KeySource,
    RemoteObject,
    check_unchanged,
    find_object,
    open_source,
    split_url,
    store_at,
)
from coldfuse.errors import UserInputError
from coldfuse.tensors.header import Header
from coldfuse.tensors.model_folder import (
    INDEX,
    ModelFolder,
    check_index,
    check_owners,
    choose_plain_files,
    choose_weight_files,
    open_model_folder,
    read_file_header,
)

Location = Path | str
"""A local path, or `s3://BUCKET/PREFIX`."""

_REQUESTS_AT_A_TIME = 16

_MAX_PLAIN_BYTES = 1 << 30
"""Of a configuration or tokenizer file; it is held in memory."""


@dataclass(frozen=True)
class RemoteFolder:
    """The files of a model in S3, with the headers of those that hold tensors."""

    url: str
    sources: Mapping[str, KeySource]
    """Each safetensors file, by its path below the prefix."""
    plain: tuple[str, ...]
    """The other files that belong to the model."""

    @property
    def headers(self) -> Mapping[str, Header]:
        """Of each safetensors file."""
        return {file: source.header for file, source in self.sources.items()}

    @property
    def schema(self) -> Schema:
        """All tensors, of all files."""
        return {name: spec for header in self.headers.values() for name, spec in header.schema.items()}

    def digest(self) -> str:
        """Hash every tensor."""
        return content_digest(list(self.sources.values()))


Folder = ModelFolder | RemoteFolder


def is_remote(where: Location) -> bool:
    """Whether this names something in S3."""
    return isinstance(where, str) and where.startswith(SCHEME)


def open_folder(where: Location) -> Folder:
    """Read the headers of a model folder. Raises `UserInputError` for what is not one."""
    if not is_remote(where):
        return open_model_folder(Path(where))
    url = str(where).rstrip("/")
    split_url(f"{url}/file")
    names = set(_keys(url))
    if "config.json" not in names:
        raise UserInputError(f"{url}: expected a Hugging Face model folder, but it has no config.json")
    files = choose_weight_files(names, lambda name: store_at(url).get(name), url)
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        sources = dict(zip(files, pool.map(lambda file: open_source(_existing(url, file)), files), strict=True))
    headers = {file: source.header for file, source in sources.items()}
    check_owners(headers, url)
    if INDEX in names:
        check_index(store_at(url).get(INDEX), headers, url)
    return RemoteFolder(url=url, sources=sources, plain=choose_plain_files(names, url))


def open_folder_or_file(where: Location) -> Folder | FileSource:
    """Open what may be a model folder or a safetensors file of its own, such as a delta."""
    if not is_remote(where):
        path = Path(where)
        return open_model_folder(path) if path.is_dir() else LocalSource(path, read_file_header(path))
    found = find_object(*split_url(str(where)))
    return open_source(found) if found else open_folder(where)


def open_file(where: Location) -> FileSource:
    """Open a safetensors file of its own."""
    if not is_remote(where):
        return LocalSource(Path(where), read_file_header(Path(where)))
    return open_source(_existing(*split_url(str(where))))


def read_adapter_config(where: Location) -> bytes | None:
    """Return the settings of what is an adapter's folder; None if it is something else."""
    if is_remote(where):
        found = find_object(str(where).rstrip("/"), ADAPTER_CONFIG)
        return None if found is None else store_at(found.store_url).get(found.key, length=MAX_MANIFEST_BYTES + 1)
    if not is_adapter(Path(where)):
        return None
    with open(Path(where) / ADAPTER_CONFIG, "rb") as file:
        return file.read(MAX_MANIFEST_BYTES + 1)


def open_adapter_file(where: Location) -> FileSource:
    """Open the tensors of an adapter's folder."""
    if is_remote(where):
        found = find_object(str(where).rstrip("/"), ADAPTER_WEIGHTS)
        if found is not None:
            return open_source(found)
    elif (path := Path(where) / ADAPTER_WEIGHTS).is_file():
        return LocalSource(path, read_file_header(path))
    raise no_weights(str(where))


def files_of(folder: Folder) -> dict[str, FileSource]:
    """Return a model's safetensors files by name."""
    if isinstance(folder, RemoteFolder):
        return dict(folder.sources)
    return {file: LocalSource(folder.path / file, header) for file, header in folder.headers.items()}


def place_in(folder: Folder, name: str) -> Location:
    """Return where a file of the folder lies."""
    return f"{folder.url}/{name}" if isinstance(folder, RemoteFolder) else folder.path / name


def read_plain(folder: Folder, name: str) -> bytes | None:
    """Return the content of a small file of the folder; None if there is no such file."""
    if not isinstance(folder, RemoteFolder):
        path = folder.path / name
        return path.read_bytes() if path.is_file() else None
    found = find_object(folder.url, name)
    if found is not None and found.size_bytes > _MAX_PLAIN_BYTES:
        raise UserInputError(f"{found}: {found.size_bytes:,} bytes are no configuration or tokenizer; remove it")
    return None if found is None else store_at(folder.url).get(name)


def read_config(folder: Folder) -> dict[str, object]:
    """Return the model's configuration."""
    try:
        config = json.loads(read_plain(folder, "config.json") or b"{}")
    except ValueError as error:
        raise UserInputError(f"{place_in(folder, 'config.json')}: not JSON: {error}") from error
    return config if isinstance(config, dict) else {}


def check_all_unchanged(sources: Sequence[FileSource]) -> None:
    """Raise `StorageError` if an object was replaced since it was opened."""
    objects = [source.object for source in sources if isinstance(source, KeySource)]
    with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
        list(pool.map(check_unchanged, objects))


def _existing(store_url: str, key: str) -> RemoteObject:
    found = find_object(store_url, key)
    if found is None:
        raise UserInputError(f"{store_url}/{key}: there is no such object")
    return found


def _keys(url: str) -> Iterator[str]:
    """List what lies under a prefix."""
    page = store_at(url).list("")
    yield from page.keys
    while page.next_after is not None:
        page = store_at(url).list("", after=page.next_after)
        yield from page.keys
