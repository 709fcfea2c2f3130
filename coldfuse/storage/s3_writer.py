"""Writing large objects to S3, in parts."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

from coldfuse.errors import StorageError
from coldfuse.storage.base import ObjectWriter
from coldfuse.storage.s3_bucket import ABSENT, S3Bucket, new_mark
from coldfuse.storage.s3_errors import S3Error, status_of, storage_error
from coldfuse.storage.s3_settings import MAX_PART_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MAX_PARTS = 10_000
_NUM_EQUAL_PARTS = 5_000
_NUM_DOUBLING_PARTS = 500


def part_bytes(number: int, *, first: int) -> int:
    """Return the size of part `number`, from 1, such that 10,000 of them hold the largest object that S3 takes (5 TiB).

    The first 5,000 parts, 40 GiB by default, are of one size: some servers take no others. Then the size doubles every
    500 parts.

    >>> part_bytes(5_000, first=8 * 2**20) // 2**20, part_bytes(5_001, first=8 * 2**20) // 2**20
    (8, 16)
    """
    num_doublings = max(0, number - _NUM_EQUAL_PARTS + _NUM_DOUBLING_PARTS - 1) // _NUM_DOUBLING_PARTS
    return min(first << num_doublings, MAX_PART_BYTES)


class S3Writer(ObjectWriter):
    """Gathers one part; an object that ends within it is a single conditional request, a larger one a multipart upload.

    Some servers (Ceph 16 is one) ignore the condition of a multipart upload, so `commit` also looks first. Two writers
    of one key that look at the same time may then both succeed, and the later one's bytes stay. Large objects are
    therefore named by their content: whoever wins, the bytes are the same.
    """

    def __init__(self, bucket: S3Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._buffer = bytearray()
        self._is_open = True
        self._upload: _Upload | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes; returns when all but a few parts are with the server."""
        self._require_open()
        rest = memoryview(data).cast("B")
        while rest:
            room = self._part_bytes() - len(self._buffer)
            if room == 0:  # only now is it certain that there is more than this part
                self._send_part()
                continue
            self._buffer += rest[:room]
            rest = rest[room:]

    def commit(self) -> bool:
        """Make the object visible, durable and whole; False if the key was already taken."""
        self._require_open()
        if self._upload is None:
            self._is_open = False
            return self._bucket.put(self._key, bytes(self._buffer), condition=ABSENT) is not None
        self._send_part()
        is_new = self._upload.finish()
        self._is_open = False
        return is_new

    def abort(self) -> None:
        """Drop what was written; harmless after `commit` and when called twice."""
        if self._is_open and self._upload is not None:
            self._upload.abort()
        self._is_open = False
        self._buffer = bytearray()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless committed; where that fails too, the first error is the one to hear, and the rest is garbage."""
        with suppress(*((StorageError,) if error is not None else ())):
            self.abort()

    def _part_bytes(self) -> int:
        number = 1 if self._upload is None else self._upload.next_number
        return part_bytes(number, first=self._bucket.settings.part_bytes)

    def _send_part(self) -> None:
        if self._upload is None:
            self._upload = _Upload(self._bucket, self._key)
        part, self._buffer = self._buffer, bytearray()
        self._upload.send(part)

    def _require_open(self) -> None:
        if not self._is_open:
            raise StorageError(f"{self._bucket.where(self._key)}: the writer is closed; open another")


class _Upload:
    """A multipart upload with a few parts on their way at a time."""

    def __init__(self, bucket: S3Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._mark = new_mark()
        with bucket.translated(key):
            begun = bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key, Metadata=self._mark)
        self._id = begun["UploadId"]
        self._threads = ThreadPoolExecutor(bucket.settings.num_parallel_parts, thread_name_prefix="coldfuse-part")
        self._on_their_way: deque[Future[CompletedPartTypeDef]] = deque()
        self._parts: list[CompletedPartTypeDef] = []
        self.next_number = 1

    def send(self, data: bytearray) -> None:
        if self.next_number > MAX_PARTS:
            raise StorageError(f"{self._bucket.where(self._key)}: more than S3 takes in one object; split it")
        while len(self._on_their_way) >= self._bucket.settings.num_parallel_parts:
            self._parts.append(self._on_their_way.popleft().result())
        self._on_their_way.append(self._threads.submit(self._send, self.next_number, data))
        self.next_number += 1

    def finish(self) -> bool:
        """Put the parts together, unless the key is taken; the writer aborts when this raises."""
        while self._on_their_way:
            self._parts.append(self._on_their_way.popleft().result())
        if self._bucket.head(self._key) is not None:
            self.abort()
            return False
        try:
            self._bucket.client.complete_multipart_upload(
                Bucket=self._bucket.name,
                Key=self._key,
                UploadId=self._id,
                MultipartUpload={"Parts": self._parts},
                **ABSENT,
            )
        except S3Error as error:
            return self._settle(error)
        self._threads.shutdown()
        return True

    def abort(self) -> None:
        """Stop, and drop the parts; an upload that is gone already is fine."""
        self._threads.shutdown(cancel_futures=True)  # waits for parts on their way: after the abort they would stay
        abort_upload(self._bucket, self._key, self._id)

    def _settle(self, error: Exception) -> bool:
        if self._bucket.settle(self._key, self._mark, error) is not None:
            self._threads.shutdown()
            return True
        if isinstance(error, ClientError) and status_of(error) == 412:
            self.abort()
            return False
        raise storage_error(error, self._bucket.where(self._key)) from error

    def _send(self, number: int, data: bytearray) -> CompletedPartTypeDef:
        with self._bucket.translated(self._key):
            answer = self._bucket.client.upload_part(
                Bucket=self._bucket.name, Key=self._key, UploadId=self._id, PartNumber=number, Body=cast(bytes, data)
            )
        return {"PartNumber": number, "ETag": answer["ETag"]}


def abort_upload(bucket: S3Bucket, key: str, upload_id: str) -> None:
    """Drop a multipart upload and its parts; one that is gone already is fine."""
    with bucket.translated(key):
        try:
            bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=upload_id)
        except bucket.client.exceptions.NoSuchUpload:
            return
