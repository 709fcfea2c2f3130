"""Every error of botocore comes out as one of ours, as a sentence and without secrets."""

import inspect
from types import SimpleNamespace

import pytest
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from coldfuse.errors import ObjectNotFoundError, StorageError, UnsuitableStoreError
from coldfuse.storage.s3_answers import check_answer
from coldfuse.storage.s3_errors import S3Error, storage_error

BOTO_ERRORS = [
    kind
    for _, kind in inspect.getmembers(boto, inspect.isclass)
    if issubclass(kind, Exception) and not issubclass(kind, Warning) and kind.__module__ == boto.__name__
]
NOT_AT_RUN_TIME = (boto.UndefinedModelAttributeError, boto.MissingServiceIdError)  # faults of botocore's own data


def answer(status: int, code: str, message: str = "") -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


def test_no_error_of_botocore_is_left_out():
    for kind in set(BOTO_ERRORS) - set(NOT_AT_RUN_TIME):
        assert issubclass(kind, S3Error), kind
        error = kind.__new__(kind)
        error.response = {}
        error.operation_name = "PutObject"
        ours = storage_error(error, "s3://bucket/key")
        assert isinstance(ours, StorageError), kind
        assert str(ours).startswith("s3://bucket/key: ")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (answer(404, "NoSuchKey"), ObjectNotFoundError, "no such object"),
        (answer(404, "NoSuchBucket"), StorageError, "create it"),
        (answer(403, "InvalidAccessKeyId"), StorageError, "AWS_ACCESS_KEY_ID"),
        (answer(403, "403"), StorageError, "access denied"),
        (answer(501, "NotImplemented"), UnsuitableStoreError, "use another store"),
        (answer(503, "SlowDown"), StorageError, "try again later"),
        (answer(411, "MissingContentLength"), StorageError, "when_required"),
        (answer(418, "Teapot", "short  and\nstout"), StorageError, "418 Teapot: short and stout"),
        (boto.NoCredentialsError(), StorageError, "AWS_SECRET_ACCESS_KEY"),
        (boto.EndpointConnectionError(endpoint_url="http://x"), StorageError, "cannot be reached"),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), StorageError, "does not answer"),
        (boto.SSLError(endpoint_url="http://x", error="e"), StorageError, "certificate"),
    ],
)
def test_a_message_says_what_to_do(error, kind, words):
    ours = storage_error(error, "s3://bucket/key")
    assert type(ours) is kind
    assert words in str(ours)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("PutObject", {}),
        ("GetObject", {"ETag": '"e"', "ContentLength": -1}),
        ("HeadObject", {"ETag": '"e"', "ContentLength": 1}),
        ("ListObjectsV2", {"IsTruncated": False, "Contents": [{"Size": 1}]}),
    ],
)
def test_an_answer_that_lacks_what_is_read_of_it_is_refused_as_none_of_s3(name, answer):
    answer |= {"ResponseMetadata": {"HTTPStatusCode": 200}}
    with pytest.raises(ResponseParserError) as caught:
        check_answer(answer, SimpleNamespace(name=name))
    error = storage_error(caught.value, "s3://bucket/key")
    assert "the answer is not one of S3" in str(error)
    assert error.may_pass
