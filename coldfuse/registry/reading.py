"""Reading pointers and entries, again where they seem damaged, before anything is concluded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from coldfuse.errors import CodecError
from coldfuse.storage.base import ObjectStore
from coldfuse.tensors.rereading import TRIES, pause

T = TypeVar("T")


def read_again(store: ObjectStore, key: str, read: Callable[[bytes], T]) -> tuple[T, str]:
    """Return what an object holds, and its etag.

    Args:
        store: Where the object lies.
        key: Its key.
        read: Makes a value of its bytes; raises `CodecError` for what is none.

    Raises:
        CodecError: It holds no such value, however often it is read.
        ObjectNotFoundError: It is not there.
    """
    failure: CodecError | None = None
    for number in range(TRIES):
        pause(number)
        data, etag = store.get_with_etag(key)
        try:
            return read(data), etag
        except CodecError as error:
            failure = error
    raise failure or CodecError(f"{store.url} {key}: cannot be read")
