"""S3 servers as fixtures, for every test: register with `pytest_plugins = ["servers.fixtures"]`."""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest

from coldfuse.storage.s3_settings import S3Settings
from servers.ceph import PACKAGES, Ceph, missing_programs
from servers.others import start_moto, start_rclone
from servers.processes import stop

ENDPOINT_VARIABLE = "COLDFUSE_TEST_S3_ENDPOINT"
_BUCKET = "coldfuse-test"


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running S3 server with a bucket. Credentials are in the environment, where boto3 looks for them."""

    name: str
    endpoint_url: str

    def settings(self, **changes: object) -> S3Settings:
        """Return settings that reach it."""
        return S3Settings(endpoint_url=self.endpoint_url, **changes)

    def fresh_url(self) -> str:
        """Return the url of a store that nobody else uses."""
        return f"s3://{_BUCKET}/{uuid.uuid4().hex}"

    def create_bucket(self, name: str = _BUCKET) -> None:
        """Create a bucket, or take the one that is there."""
        client = boto3.session.Session().client("s3", endpoint_url=self.endpoint_url)
        if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=name)
        client.close()


@pytest.fixture(scope="session")
def s3_credentials() -> Iterator[None]:
    """The test servers' credentials in the environment, and nothing of the user's own S3 set-up.

    With COLDFUSE_TEST_S3_ENDPOINT the user's AWS_* variables stay: they are for that store.
    """
    if ENDPOINT_VARIABLE in os.environ:
        yield
        return
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_ACCESS_KEY_ID", Ceph.access_key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", Ceph.secret_key)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory, s3_credentials: None) -> Iterator[Ceph]:
    """A Ceph cluster for the whole run; tests that kill parts of it start them again."""
    _skip_if_other_endpoint()
    if missing_programs():
        pytest.skip(f"Ceph is not installed (no {', '.join(missing_programs())}): apt-get install {PACKAGES}")
    cluster = Ceph(tmp_path_factory.mktemp("ceph"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture(scope="session")
def ceph_server(ceph: Ceph) -> S3Server:
    """Ceph's S3 gateway."""
    server = S3Server(name="ceph", endpoint_url=ceph.endpoint_url)
    server.create_bucket()
    return server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory, s3_credentials: None) -> Iterator[S3Server]:
    """moto's server."""
    _skip_if_other_endpoint()
    process, endpoint_url = start_moto(tmp_path_factory.mktemp("moto"))
    try:
        server = S3Server(name="moto", endpoint_url=endpoint_url)
        server.create_bucket()
        yield server
    finally:
        stop(process)


@pytest.fixture(scope="session")
def rclone_server(tmp_path_factory: pytest.TempPathFactory, s3_credentials: None) -> Iterator[S3Server]:
    """rclone's server, which ignores conditions."""
    _skip_if_other_endpoint()
    folder = tmp_path_factory.mktemp("rclone")
    process, endpoint_url = start_rclone(folder, access_key=Ceph.access_key, secret_key=Ceph.secret_key)
    try:
        server = S3Server(name="rclone", endpoint_url=endpoint_url)
        server.create_bucket()
        yield server
    finally:
        stop(process)


@pytest.fixture(scope="session")
def other_server(s3_credentials: None) -> S3Server:
    """The store that COLDFUSE_TEST_S3_ENDPOINT names; its credentials come from the user's AWS_* variables."""
    if ENDPOINT_VARIABLE not in os.environ:
        pytest.skip(f"{ENDPOINT_VARIABLE} names no store")
    server = S3Server(name="other", endpoint_url=os.environ[ENDPOINT_VARIABLE])
    server.create_bucket()
    return server


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """The best S3 server there is: the one that the user names, else Ceph where it is installed, else moto."""
    if ENDPOINT_VARIABLE in os.environ:
        return request.getfixturevalue("other_server")
    return request.getfixturevalue("moto_server" if missing_programs() else "ceph_server")


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh store's url that `open_store` takes as it is, here and in child processes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint_url)
    return s3_server.fresh_url()


def _skip_if_other_endpoint() -> None:
    if ENDPOINT_VARIABLE in os.environ:
        pytest.skip(f"{ENDPOINT_VARIABLE} names another store")
