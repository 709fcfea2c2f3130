"""The object stores that files lie in, opened once a process."""

from __future__ import annotations

import socket
from functools import lru_cache

from coldfuse.errors import StorageError, UserInputError
from coldfuse.storage import open_store
from coldfuse.storage.base import ObjectStore

S3_SCHEME = "s3://"

_given: dict[str, ObjectStore] = {}


def split_url(url: str) -> tuple[str, str]:
    """Return the store that an object lies in, and its key there. Raises `UserInputError` if there is no key.

    >>> split_url("s3://bucket/models/delta.safetensors")
    ('s3://bucket/models', 'delta.safetensors')
    """
    store_url, _, key = url.removeprefix(S3_SCHEME).rstrip("/").rpartition("/")
    if not store_url:
        raise UserInputError(f"{url}: expected s3://BUCKET/PREFIX of a model folder, or s3://BUCKET/KEY of a delta")
    return S3_SCHEME + store_url, key


@lru_cache(maxsize=64)
def store_at(url: str) -> ObjectStore:
    """Open a store, once a process; it need not hold a federation."""
    return _given[url] if url in _given else open_store(url)


def give_store(store: ObjectStore) -> None:
    """Have this process use a store wherever it would open one of its url: one that counts what it is asked, say."""
    _given[store.url] = store


@lru_cache(maxsize=8)
def federation_store(url: str) -> ObjectStore:
    """Open a federation's store, once a process.

    Raises:
        StorageError: This machine sees no federation in it, as where a folder lies on another machine's disk.
    """
    store = store_at(url)
    if store.head("federation.json") is None:
        hint = "Ray on several machines needs a folder that they share, or s3://"
        raise StorageError(f"{url} holds no federation as {socket.gethostname()} sees it: {hint}")
    return store
