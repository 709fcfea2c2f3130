"""What is tried again on S3, for how long, and what a caller hears in the end."""

from collections.abc import Iterator
from io import BytesIO

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from coldfuse.errors import StorageError
from coldfuse.storage.s3 import S3Store
from coldfuse.storage.s3_settings import S3Settings

NUM_ATTEMPTS = 3


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> S3Store:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    settings = S3Settings(endpoint_url="http://127.0.0.1:9", region="us-east-1", num_attempts=NUM_ATTEMPTS)
    return S3Store("s3://bucket/prefix", settings=settings)


@pytest.fixture
def server(store: S3Store) -> Iterator[Stubber]:
    """Answers in the order in which the test adds them, and fails a test that asks for fewer."""
    with Stubber(store._bucket.client) as server:
        yield server
        server.assert_no_pending_responses()


def add_body(server: Stubber, data: bytes, *, promised_bytes: int) -> None:
    body = StreamingBody(BytesIO(data), content_length=promised_bytes)
    server.add_response("get_object", {"Body": body, "ETag": '"etag"', "ContentLength": promised_bytes})


def test_a_write_that_met_another_is_tried_again(store: S3Store, server: Stubber) -> None:
    for code in ("ConditionalRequestConflict", "OperationAborted"):
        server.add_client_error("put_object", service_error_code=code, http_status_code=409)
    server.add_response("put_object", {"ETag": '"etag"'})
    assert store.compare_and_swap("key", b"x", etag=None) == "etag"


def test_a_key_that_others_write_all_the_time_is_an_error(store: S3Store, server: Stubber) -> None:
    for _ in range(NUM_ATTEMPTS):
        server.add_client_error("put_object", service_error_code="ConditionalRequestConflict", http_status_code=409)
    with pytest.raises(StorageError, match="others write this key all the time; try again later"):
        store.put_if_absent("key", b"x")


def test_a_read_goes_on_for_as_long_as_answers_bring_something(store: S3Store, server: Stubber) -> None:
    buffer = bytearray(2 * NUM_ATTEMPTS)
    for number in range(len(buffer)):
        add_body(server, b"%d" % number, promised_bytes=len(buffer) - number)
    store.read_into("key", memoryview(buffer))
    assert buffer == b"012345"


def test_answers_that_bring_nothing_are_an_error_in_the_end(store: S3Store, server: Stubber) -> None:
    buffer = bytearray(3)
    add_body(server, b"1", promised_bytes=3)
    for _ in range(NUM_ATTEMPTS):
        add_body(server, b"", promised_bytes=2)
    with pytest.raises(StorageError, match="check network and server"):
        store.read_into("key", memoryview(buffer))
    for _ in range(NUM_ATTEMPTS):
        add_body(server, b"1", promised_bytes=3)
    with pytest.raises(StorageError):
        store.get("key")
