"""What a key, a range and a page size may be: the same for every store, so that none takes what another refuses."""

from __future__ import annotations

import re

from coldfuse.errors import StorageError

MAX_KEY_BYTES = 512  # S3 takes 1,024, and the rest is for the prefix that a store lies under
MAX_SEGMENT_BYTES = 255  # the longest file name that Linux file systems take
RESERVED = ".coldfuse"  # the local store keeps its temporary files and its locks in this folder
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_key(key: str) -> str:
    """Return the key, or raise `StorageError` when no store should take it.

    >>> check_key("objects/00ff")
    'objects/00ff'
    >>> check_key("../etc/passwd")
    Traceback (most recent call last):
    ...
    coldfuse.errors.StorageError: key '../etc/passwd' holds the segment '..'; use a relative path of named segments
    """
    segments = key.split("/")
    for segment in segments:
        if segment in ("", ".", ".."):
            raise StorageError(f"key {key!r} holds the segment {segment!r}; use a relative path of named segments")
    if segments[0] == RESERVED:
        raise StorageError(f"key {key!r} lies in {RESERVED}/, which is the store's own; use another name")
    if _CONTROL.search(key):
        raise StorageError(f"key {key!r} holds a control character; use printable letters")
    _check_size(key, segments)
    return key


def _check_size(key: str, segments: list[str]) -> None:
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError as error:
        raise StorageError(f"key {key!r} is not valid Unicode; use letters that UTF-8 can write") from error
    if size_bytes > MAX_KEY_BYTES:
        raise StorageError(f"key {key[:40]!r}… has {size_bytes} bytes, at most {MAX_KEY_BYTES} are allowed; shorten it")
    for segment in segments:
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise StorageError(f"key {key[:40]!r}… has a segment of over {MAX_SEGMENT_BYTES} bytes; shorten it")


def check_range(start: int, length: int | None) -> None:
    """Raise `ValueError` unless start and length are zero or more."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError(f"range starts at {start} and is {length} long; neither can be negative")


def check_limit(limit: int) -> None:
    """Raise `ValueError` unless a page can hold a key."""
    if limit < 1:
        raise ValueError(f"a page of {limit} keys holds nothing; ask for 1 or more")
