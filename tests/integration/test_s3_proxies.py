"""A proxy of the environment hears nothing of an S3 server on this machine."""

import pytest

from coldfuse.errors import StorageError
from coldfuse.storage.s3 import S3Store
from coldfuse.storage.s3_settings import S3Settings


@pytest.mark.parametrize("by_environment", [False, True], ids=["setting", "AWS_ENDPOINT_URL"])
def test_a_server_on_loopback_is_reached_without_the_proxy(
    monkeypatch: pytest.MonkeyPatch, by_environment: bool
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    endpoint = "http://127.0.0.1:9"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    settings = S3Settings(endpoint_url=None if by_environment else endpoint, region="us-east-1", num_attempts=1)
    store = S3Store("s3://bucket/prefix", settings=settings)

    with pytest.raises(StorageError, match="the server cannot be reached"):  # and not: the proxy cannot be reached
        store.head("x")
