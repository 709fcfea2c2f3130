"""One S3 bucket: the client, and the write that takes place once or not at all and knows which.

A request whose answer gets lost is sent again by boto3, and then meets its own first success: the server answers 412,
though the write is ours. So every write carries a mark of its own in the object's metadata, and where an answer is
doubtful the object is asked whose it is. Comparing contents could not tell two writers of the same bytes apart.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from coldfuse.errors import StorageError
from coldfuse.proxies import is_this_machine
from coldfuse.storage.s3_answers import check_answer
from coldfuse.storage.s3_errors import S3Error, code_of, status_of, storage_error, was_retried
from coldfuse.storage.s3_settings import S3Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

T = TypeVar("T")

MARK = "coldfuse-write"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 1.0


class Condition(TypedDict, total=False):
    """What must hold for a write to take place, in boto3's words."""

    IfNoneMatch: Literal["*"]
    IfMatch: str  # without quotes: Ceph takes an etag in quotes for another one


ABSENT = Condition(IfNoneMatch="*")


def new_mark() -> dict[str, str]:
    """Return metadata that tell this write from every other."""
    return {MARK: uuid.uuid4().hex}


class S3Bucket:
    """A bucket and its client, of which every process makes its own: connections do not survive a fork."""

    def __init__(self, name: str, *, settings: S3Settings) -> None:
        self.name = name
        self.settings = settings
        self._clients: dict[int, S3Client] = {}
        self._locks: dict[int, threading.Lock] = {}  # one a process: a fork can leave its parent's locked for ever
        self._is_known = False
        self._pools: dict[int, ThreadPoolExecutor] = {}

    @property
    def client(self) -> S3Client:
        """The client of this process, made when first needed."""
        process = os.getpid()
        with self._locks.setdefault(process, threading.Lock()):
            if process not in self._clients:
                with self.translated(""):
                    self._clients[process] = _connect(self.settings)
            return self._clients[process]

    @property
    def threads(self) -> ThreadPoolExecutor:
        """Threads of this process for parts of large reads, as many as there may be connections."""
        process = os.getpid()
        with self._locks.setdefault(process, threading.Lock()):
            if process not in self._pools:
                self._pools[process] = ThreadPoolExecutor(self.settings.max_connections, "coldfuse-range")
            return self._pools[process]

    def where(self, key: str) -> str:
        """Return the address of a key, for messages."""
        return f"s3://{self.name}/{key}"

    @contextmanager
    def translated(self, key: str) -> Iterator[None]:
        """Turn botocore's errors in the block into ours."""
        try:
            yield
        except S3Error as error:
            raise storage_error(error, self.where(key)) from error

    def head(self, key: str) -> HeadObjectOutputTypeDef | None:
        """Return what the server knows of the object, or None when there is none."""
        with self.translated(key):
            try:
                return self.client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                self._require_bucket()
                return None

    def put(self, key: str, data: bytes, *, condition: Condition) -> str | None:
        """Write in one request; return the new etag, or None when the condition did not hold."""
        attempt = partial(self._put_once, key, data, condition, new_mark())
        try:
            return self.retry(attempt, is_transient=lambda error: _is_busy(error) or type(error) is _FalseRefusalError)
        except _FalseRefusalError as error:
            reason = "the server refuses the write for its condition, which holds; try again"
            raise StorageError(f"{self.where(key)}: {reason}", may_pass=True) from error
        except S3Error as error:
            reason = "others write this key all the time; try again later"
            raise StorageError(f"{self.where(key)}: {reason}", may_pass=True) from error

    def _put_once(self, key: str, data: bytes, condition: Condition, mark: dict[str, str]) -> str | None:
        try:
            answer = self.client.put_object(Bucket=self.name, Key=key, Body=data, Metadata=mark, **condition)
        except S3Error as error:
            if _is_busy(error):
                raise
            found = self._look_after(error, key)
            if _is_marked(found, mark):
                return _etag_of(found)
            if not _is_refused(error):
                raise storage_error(error, self.where(key)) from error
            if _etag_of(found) == condition.get("IfMatch"):  # nobody has written: a server or proxy was wrong
                raise _FalseRefusalError from error
            return None
        return answer["ETag"].strip('"')

    def retry(self, call: Callable[[], T], *, is_transient: Callable[[BaseException], bool]) -> T:
        """Call until it succeeds or fails for good, `num_attempts` times at most; then the last error is raised.

        For what boto3 does not try again by itself. Waits are random, so that those who collided do not collide again.
        """
        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S),
            stop=stop_after_attempt(self.settings.num_attempts),
            reraise=True,
        )
        return retrying(call)

    def settle(self, key: str, mark: dict[str, str], error: Exception) -> str | None:
        """Return the object's etag if the write with this mark took place although it ended in an error, else None."""
        found = self._look_after(error, key)
        return _etag_of(found) if _is_marked(found, mark) else None

    def _look_after(self, error: Exception, key: str) -> HeadObjectOutputTypeDef | None:
        """Return what is there after a write that ended in an error; None also where nobody need look."""
        if isinstance(error, ClientError) and status_of(error) < 500 and not (was_retried(error) or _is_refused(error)):
            return None  # a clear answer to the only request; a refusal is none, as proxies send requests twice, too
        try:
            return self.head(key)
        except StorageError:
            raise storage_error(error, self.where(key)) from error

    def _require_bucket(self) -> None:
        """Tell a missing object from a missing bucket: the answer to HEAD has no body that would."""
        if self._is_known:
            return
        try:
            self.client.head_bucket(Bucket=self.name)
        except ClientError as error:
            if status_of(error) == 404:
                error.response["Error"]["Code"] = "NoSuchBucket"
                raise
            if status_of(error) != 403:  # credentials for a prefix only may not look at the bucket
                raise
        self._is_known = True


class _FalseRefusalError(Exception):
    """The server has refused a write for a condition that holds."""


def _is_marked(found: HeadObjectOutputTypeDef | None, mark: dict[str, str]) -> bool:
    return found is not None and found["Metadata"].get(MARK) == mark[MARK]


def _etag_of(found: HeadObjectOutputTypeDef | None) -> str | None:
    return None if found is None else found["ETag"].strip('"')


def _is_refused(error: Exception) -> bool:
    """Tell whether the condition did not hold; one on the etag of an object that is gone is answered by 404."""
    return isinstance(error, ClientError) and (status_of(error) == 412 or code_of(error) == "NoSuchKey")


def _is_busy(error: BaseException) -> bool:
    """Tell whether another conditional write was just going on, so that the server left the question open."""
    return isinstance(error, ClientError) and code_of(error) in ("ConditionalRequestConflict", "OperationAborted")


@cache
def _api_description() -> Loader:
    loader: Loader = botocore.session.get_session().get_component("data_loader")
    return loader


def _connect(settings: S3Settings) -> S3Client:
    config = Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": settings.num_attempts},
        max_pool_connections=settings.max_connections,
        tcp_keepalive=True,
        s3={"addressing_style": settings.addressing_style},
        request_checksum_calculation=settings.request_checksum_calculation,
        response_checksum_validation=settings.request_checksum_calculation,
    )
    # A session of its own, since the default one is not safe to make clients from in several threads; but the API's
    # description is the same for all, and reading it is nine tenths of the 100 ms that a session's first client takes.
    core = botocore.session.get_session()
    core.register_component("data_loader", _api_description())
    session = boto3.session.Session(botocore_session=core)

    def connect(config: Config) -> S3Client:
        return session.client("s3", endpoint_url=settings.endpoint_url, region_name=settings.region, config=config)

    client = connect(config)
    client.meta.events.register("after-call.s3", check_answer)
    host = urlsplit(client.meta.endpoint_url).hostname or ""  # the setting's, the environment's or the profile's
    if getproxies() and is_this_machine(host):
        client = connect(config.merge(Config(proxies={})))  # a proxy would look for the server on its own machine
        client.meta.events.register("after-call.s3", check_answer)
    return client
