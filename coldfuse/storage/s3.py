"""A store on S3, or on any server that speaks it and honours conditional writes (`probe.py` finds those that do not).

Small objects and pointers are one conditional PUT each, which servers carry out in one step. Nothing else is relied
upon for "never overwritten" and "compare and swap": not listing, not versions, not locks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import closing
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError

from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError, UserInputError
from coldfuse.storage.base import MAX_POINTER_BYTES, ObjectInfo, Page
from coldfuse.storage.keys import check_key, check_limit, check_range
from coldfuse.storage.s3_bucket import ABSENT, Condition, S3Bucket
from coldfuse.storage.s3_errors import BrokenBody, status_of, storage_error
from coldfuse.storage.s3_settings import S3Settings
from coldfuse.storage.s3_writer import S3Writer, abort_upload

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

__all__ = ["S3Settings", "S3Store"]

T = TypeVar("T")

MAX_PREFIX_BYTES = 500  # with MAX_KEY_BYTES and a slash under the 1,024 of S3
MAX_SINGLE_PUT_BYTES = 5 * 2**30
_MAX_KEYS = 1000
_PIECE_BYTES = 1 << 18


class S3Store:
    """Objects below a prefix of a bucket, which must exist."""

    def __init__(self, url: str, *, settings: S3Settings | None = None) -> None:
        """Open the store; nothing is asked of the server yet.

        Args:
            url: `s3://bucket/prefix`, or `s3://bucket`.
            settings: How to reach the server.
        """
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        prefix = prefix.strip("/")
        if not url.startswith("s3://") or not bucket:
            raise UserInputError(f"store {url!r}: expected s3://BUCKET/PREFIX")
        if len(prefix.encode()) > MAX_PREFIX_BYTES:
            raise UserInputError(f"store {url!r}: its prefix has more than {MAX_PREFIX_BYTES} bytes; shorten it")
        self._url = url
        self._root = prefix and prefix + "/"
        self._bucket = S3Bucket(bucket, settings=settings or S3Settings())

    def __reduce__(self) -> tuple[Callable[[str, S3Settings], S3Store], tuple[str, S3Settings]]:
        """Travel to another process as url and settings; the client stays."""
        return _open, (self._url, self._bucket.settings)

    @property
    def url(self) -> str:
        """What `open_store` was given; the settings travel apart."""
        return self._url

    @property
    def identity(self) -> str:
        """The url, and the server that it is on."""
        return f"{self._url} at {self._bucket.client.meta.endpoint_url}"

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and etag, or None when there is no such object."""
        found = self._bucket.head(self._full(key))
        return found and ObjectInfo(size_bytes=found["ContentLength"], etag=found["ETag"].strip('"'))

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of the object."""
        check_range(start, length)
        if length == 0:  # a range cannot say this
            self._require(key)
            return b""
        return self._read(key, start, length)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return the whole object and the etag of exactly these bytes."""
        data, etag = self._read(key, 0, MAX_POINTER_BYTES)
        return (data, etag) if etag else self._read(key, 0, None)  # of nothing there is no range

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        """Fill the whole buffer from `start`; an answer that breaks off is continued where it ended."""
        check_range(start, None)
        rest = buffer.cast("B")
        if not rest:
            self._require(key)
        num_ranges = min(self._bucket.settings.num_parallel_parts, len(rest) // self._bucket.settings.part_bytes)
        if num_ranges < 2:
            self._fill_range(key, rest, start)
            return
        step = -(-len(rest) // num_ranges)  # one connection seldom has all of the bandwidth
        offsets = range(0, len(rest), step)
        ranges = [self._bucket.threads.submit(self._fill_range, key, rest[o : o + step], start + o) for o in offsets]
        wait(ranges)  # also after a failure: nobody may write into the buffer when this returns
        for each in ranges:
            each.result()

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Create the object; False if the key was taken."""
        if len(memoryview(data).cast("B")) > MAX_SINGLE_PUT_BYTES:
            with self.open_writer(key) as writer:
                writer.write(data)
                return writer.commit()
        return self._bucket.put(self._full(key), bytes(data), condition=ABSENT) is not None

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Replace the content that had this etag (None: there was no object), and return the new etag."""
        condition = ABSENT if etag is None else Condition(IfMatch=etag)
        new_etag = self._bucket.put(self._full(key), data, condition=condition)
        if new_etag is None:
            raise ConflictError(f"{self._where(key)}: was changed by somebody else; read it and decide again")
        return new_etag

    def open_writer(self, key: str) -> S3Writer:
        """Start an object that is written in pieces; a large one must be named by its content (see `S3Writer`)."""
        return S3Writer(self._bucket, self._full(key))

    def write_buffer_bytes(self, size_bytes: int) -> int:
        """Return what a writer holds: the part that it gathers, and those on their way."""
        settings = self._bucket.settings
        return min(size_bytes, settings.part_bytes * (1 + settings.num_parallel_parts))

    def list(self, prefix: str, *, after: str | None = None, limit: int = 1000) -> Page:
        """Return at most `limit` keys (and at most 1,000) that begin with prefix and come after `after`."""
        check_limit(limit)
        with self._bucket.translated(self._root):
            answer = self._bucket.client.list_objects_v2(
                Bucket=self._bucket.name,
                Prefix=self._root + prefix,
                MaxKeys=min(limit, _MAX_KEYS),
                StartAfter=self._root + (after or ""),
            )
        keys = tuple(item["Key"].removeprefix(self._root) for item in answer.get("Contents", ()))
        return Page(keys=keys, next_after=keys[-1] if keys and answer["IsTruncated"] else None)

    def delete(self, key: str) -> None:
        """Remove the object; no error when there is none."""
        full = self._full(key)
        with self._bucket.translated(full):
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=full)

    def collect_garbage(self, *, older_than_s: float) -> int:
        """Abort multipart uploads that were begun longer ago; see `coldfuse.storage.collect_garbage`."""
        num_aborted = 0
        bucket, client = self._bucket.name, self._bucket.client
        with self._bucket.translated(self._root):
            for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=self._root):
                now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])  # the server's clock
                for upload in page.get("Uploads", ()):
                    if now - upload["Initiated"] >= timedelta(seconds=older_than_s):
                        abort_upload(self._bucket, upload["Key"], upload["UploadId"])
                        num_aborted += 1
        return num_aborted

    def _full(self, key: str) -> str:
        return self._root + check_key(key)

    def _where(self, key: str) -> str:
        return self._bucket.where(self._full(key))

    def _require(self, key: str) -> None:
        if self.head(key) is None:
            raise ObjectNotFoundError(f"{self._where(key)}: no such object")

    def _fill_range(self, key: str, rest: memoryview, start: int) -> None:
        num_stalled = 0
        while rest:
            num_read, broken = self._retry(key, partial(self._fill, key, rest, start))
            rest, start = rest[num_read:], start + num_read
            num_stalled = num_stalled + 1 if isinstance(broken, ReadTimeoutError) else 0
            if rest and broken is not None and num_stalled >= self._bucket.settings.num_attempts:
                raise storage_error(broken, self._where(key)) from broken

    def _read(self, key: str, start: int, length: int | None) -> tuple[bytes, str]:
        """Return a range and the etag; an answer that breaks off is asked for again."""

        def attempt() -> tuple[bytes, str]:
            answer = self._request(key, start, length)
            if answer is None:
                return b"", ""
            return b"".join(self._pieces(answer)), answer["ETag"].strip('"')

        return self._retry(key, attempt)

    def _fill(self, key: str, buffer: memoryview, start: int) -> tuple[int, Exception | None]:
        """Fill as much of the buffer as one answer brings; return how many bytes, and what has broken it off."""
        answer = self._request(key, start, len(buffer))
        if answer is None:
            raise self._ends_before(key, start, len(buffer))
        with closing(answer["Body"]):  # also of an answer that is refused: its connection stays open else
            return self._fill_from(answer, key, buffer, start)

    def _fill_from(
        self, answer: GetObjectOutputTypeDef, key: str, buffer: memoryview, start: int
    ) -> tuple[int, Exception | None]:
        if not answer["ContentLength"]:
            raise self._ends_before(key, start, len(buffer))
        if answer["ContentLength"] > len(buffer):
            raise StorageError(f"{self._where(key)}: the server sends more than the range asked for; use another store")
        num_read = 0
        try:
            for piece in self._pieces(answer):
                buffer[num_read : num_read + len(piece)] = piece
                num_read += len(piece)
        except BrokenBody as error:
            if not num_read:
                raise
            return num_read, error
        return num_read, None

    def _ends_before(self, key: str, start: int, wanted: int) -> StorageError:
        return StorageError(f"{self._where(key)}: ends at or before byte {start}, {wanted} more were wanted")

    def _pieces(self, answer: GetObjectOutputTypeDef) -> Iterator[bytes]:
        """Yield the bytes of an answer as they come; one that only drips is broken off, and asked for again.

        Reading what has come costs half of what waiting for large pieces does, and no silent second passes unnoticed.
        """
        settings, began_s, num_read = self._bucket.settings, time.monotonic(), 0
        with closing(answer["Body"]) as body:
            stream = body._raw_stream  # type: ignore[attr-defined]  # botocore's wrapper has no read1
            while num_read < answer["ContentLength"]:
                piece = stream.read1(_PIECE_BYTES)
                if not piece:
                    raise IncompleteReadError(actual_bytes=num_read, expected_bytes=answer["ContentLength"])
                yield piece
                num_read += len(piece)
                late_s = time.monotonic() - began_s - settings.read_timeout_s
                if late_s > 0 and num_read < late_s * settings.min_bytes_per_s:
                    raise ReadTimeoutError(endpoint_url=self._bucket.client.meta.endpoint_url)

    def _retry(self, key: str, read: Callable[[], T]) -> T:
        """Read again where an answer broke off before it brought anything."""
        try:
            return self._bucket.retry(read, is_transient=lambda error: isinstance(error, BrokenBody))
        except BrokenBody as error:
            raise storage_error(error, self._where(key)) from error

    def _request(self, key: str, start: int, length: int | None) -> GetObjectOutputTypeDef | None:
        """Ask for a range; None when it begins at the object's end or after it."""
        full = self._full(key)
        end = "" if length is None else start + length - 1
        with self._bucket.translated(full):
            try:
                if start == 0 and length is None:  # a range of an empty object would begin at its end
                    return self._bucket.client.get_object(Bucket=self._bucket.name, Key=full)
                return self._bucket.client.get_object(Bucket=self._bucket.name, Key=full, Range=f"bytes={start}-{end}")
            except ClientError as error:
                if status_of(error) != 416:
                    raise
                return None


def _open(url: str, settings: S3Settings) -> S3Store:
    return S3Store(url, settings=settings)
