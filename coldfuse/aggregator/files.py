"""Where the safetensors files of a fusion lie: local paths, or parts in an object store."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from coldfuse.codec.blobs import BlobReader, ReadRange
from coldfuse.codec.local_file import LocalFile
from coldfuse.core.blob import Blob
from coldfuse.errors import StorageError
from coldfuse.registry.federation import SETTINGS_KEY
from coldfuse.registry.objects import Objects
from coldfuse.storage import open_store
from coldfuse.storage.base import ObjectStore


@dataclass(frozen=True)
class LocalRef:
    """A file in a local folder."""

    path: Path


@dataclass(frozen=True)
class StoreRef:
    """A file that lies as parts in a store; any machine that reaches the store can read it."""

    store_url: str
    blob: Blob


FileRef = LocalRef | StoreRef


@lru_cache(maxsize=8)
def shared_store(url: str) -> ObjectStore:
    """Open a federation's store, once a process."""
    store = open_store(url)
    if store.head(SETTINGS_KEY) is None:
        hint = "Ray on several machines needs a folder that they share, or s3://"
        raise StorageError(f"{url} holds no federation as {socket.gethostname()} sees it: {hint}")
    return store


@contextmanager
def open_files(refs: Sequence[FileRef]) -> Iterator[list[ReadRange]]:
    """Open all files of a task for reading by range."""
    with ExitStack() as stack:
        yield [_open(ref, stack) for ref in refs]


def _open(ref: FileRef, stack: ExitStack) -> ReadRange:
    if isinstance(ref, LocalRef):
        return stack.enter_context(LocalFile(ref.path)).read_into
    return BlobReader(ref.blob, Objects(shared_store(ref.store_url)).read_into).read_into
