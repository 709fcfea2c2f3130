"""What botocore raises, translated once into `errors.py`, as a sentence that a person can act on.

No message holds a secret: of a request it names the address only, of an answer the server's code and message.
"""

from __future__ import annotations

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from coldfuse.errors import ObjectNotFoundError, StorageError, UnsuitableStoreError

NonsenseError = (ValueError, KeyError, TypeError, OverflowError, ResponseParserError)
"""What botocore, and who reads its answers, raise for one that is not as S3's are: a proxy's page, a torn header."""
S3Error = (boto.BotoCoreError, boto.ClientError, *NonsenseError)
BrokenBody = (boto.ReadTimeoutError, boto.ResponseStreamingError, boto.IncompleteReadError, HTTPError)
"""How an answer breaks off after it has begun, where boto3 does not try again."""

_CREDENTIALS = "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
_CREDENTIAL_ERRORS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)
_UNREACHABLE = (
    (boto.SSLError, "TLS fails; check the certificate, AWS_CA_BUNDLE and whether the server speaks https"),
    (boto.ConnectTimeoutError, "the server does not answer; check endpoint, network and firewall"),
    (boto.ReadTimeoutError, "the server fell silent; check its health or raise read_timeout_s"),
    (boto.ProxyConnectionError, "the proxy cannot be reached; check HTTP_PROXY and HTTPS_PROXY"),
    (boto.ConnectionError, "the server cannot be reached; check endpoint (AWS_ENDPOINT_URL), network and server"),
    ((boto.HTTPClientError, boto.IncompleteReadError, HTTPError), "the connection broke; check network and server"),
)
_CODES = {
    "NoSuchBucket": "the bucket does not exist; create it or correct the name",
    "InvalidBucketName": "this cannot be a bucket's name; correct it",
    "InvalidAccessKeyId": f"the server does not know this access key; {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key; {_CREDENTIALS}",
    "ExpiredToken": "the session token has expired; sign in again",
    "AccessDenied": "access denied; let these credentials read, write, list and delete here, or give others",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "AuthorizationHeaderMalformed": "the region is wrong; set it",
    "PermanentRedirect": "the bucket lies in another region; set that",
    "QuotaExceeded": "the quota is used up; free some space or raise it",
    "NoSuchUpload": "the unfinished upload is gone, perhaps collected as garbage; write the object again",
}
_STATUSES = {
    401: f"the server refuses the credentials; {_CREDENTIALS}",
    403: _CODES["AccessDenied"],
    411: "the server refuses boto3's checksums; set request_checksum_calculation to when_required",
    412: "an answer got lost, and whose write took place cannot be told; try again",
    429: "the server is overloaded; try again later",
    503: "the server is overloaded or down; try again later",
    507: "the store is full; free some space",
}
_PASSING = frozenset(
    {"SlowDown", "RequestTimeout", "ServiceUnavailable", "InternalError", "ConditionalRequestConflict"}
    | {"OperationAborted", "RequestLimitExceeded", "Throttling", "ThrottlingException", 408, 409, 412, 429}
)
"""Codes and statuses of what may not come again."""


def storage_error(error: Exception, where: str) -> StorageError:
    """Return botocore's error as ours.

    Args:
        error: A `BotoCoreError`, a `ClientError`, or what broke off the body of an answer.
        where: The object or store, as a url.
    """
    if isinstance(error, boto.ClientError):
        return _from_answer(error, where)
    if isinstance(error, _CREDENTIAL_ERRORS):
        return StorageError(f"{where}: no usable credentials ({type(error).__name__}); {_CREDENTIALS}")
    if isinstance(error, NonsenseError) and not isinstance(error, (boto.BotoCoreError, boto.ClientError)):
        return StorageError(
            f"{where}: the answer is not one of S3 ({type(error).__name__}); check the endpoint, and what lies on the "
            "way to it", may_pass=True,
        )  # fmt: skip
    for kind, advice in _UNREACHABLE:
        if isinstance(error, kind):
            return StorageError(f"{where}: {advice} ({type(error).__name__})", may_pass=True)
    return StorageError(f"{where}: boto3 raised {type(error).__name__}; check the S3 settings and the AWS_* variables")


def _from_answer(error: boto.ClientError, where: str) -> StorageError:
    status, code = status_of(error), code_of(error)
    if code == "NoSuchKey":
        return ObjectNotFoundError(f"{where}: no such object")
    if status == 501:
        return UnsuitableStoreError(
            f"{where}: the server does not implement {error.operation_name} as coldfuse needs it (conditional writes, "
            f"multipart uploads); use another store"
        )
    advice = _CODES.get(code) or _STATUSES.get(status, "the server refused or failed; see its message and log")
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())[:200]
    sentence = f"{where}: {advice} ({error.operation_name}: {status} {code}{message and ': ' + message})"
    is_full = code == "QuotaExceeded" or status == 507
    may_pass = not is_full and (code in _PASSING or status in _PASSING or status >= 500)
    return StorageError(sentence, may_pass=may_pass, is_full=is_full)


def status_of(error: boto.ClientError) -> int:
    """Return the HTTP status of the answer; 0 where it has none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def code_of(error: boto.ClientError) -> str:
    """Return the server's code, such as `NoSuchKey`; for an answer without a body, its status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def was_retried(error: boto.ClientError) -> bool:
    """Tell whether boto3 had sent the request before, so that the answer may be to our own earlier success."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0
