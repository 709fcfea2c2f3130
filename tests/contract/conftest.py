"""The stores that the contract suite runs on; pytest names the one in use behind each test."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from servers.fixtures import ENDPOINT_VARIABLE
from servers.workers import NUM_PROCESSES, meet_at

from coldfuse.storage import LocalStore, MemoryStore, ObjectStore, open_store

LOCAL = ["local", "local-without-links"]
S3 = ["other"] if ENDPOINT_VARIABLE in os.environ else ["ceph", "moto"]


@pytest.fixture(params=["memory", *LOCAL, *S3])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    return _make(request, tmp_path)


@pytest.fixture(params=[*LOCAL, *S3])
def federation_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind that several processes can open."""
    return _make(request, tmp_path)


@pytest.fixture(params=S3)
def s3_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store on each S3 server."""
    return _make(request, tmp_path)


@pytest.fixture(scope="session")
def processes() -> Iterator[ProcessPoolExecutor]:
    """As many processes as `workers.create` waits for."""
    context = get_context("spawn")
    barrier = context.Barrier(NUM_PROCESSES)
    with ProcessPoolExecutor(NUM_PROCESSES, mp_context=context, initializer=meet_at, initargs=(barrier,)) as pool:
        yield pool


def _make(request: pytest.FixtureRequest, folder: Path) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "local":
        return open_store(str(folder / "store"))
    if request.param == "local-without-links":
        return LocalStore(folder / "store", has_links=False)
    server = request.getfixturevalue(f"{request.param}_server")
    return open_store(server.fresh_url(), s3=server.settings(part_bytes=5 * 2**20))
