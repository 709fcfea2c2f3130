"""A real S3 gateway that is killed in the middle of writes: nothing that it acknowledged is missing or torn."""

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from coldfuse.errors import StorageError
from coldfuse.storage import ObjectStore, open_store

NUM_WRITERS = 4
NUM_BEFORE_KILL = 40


def test_what_a_killed_gateway_acknowledged_is_there(ceph, ceph_server):
    store = open_store(ceph_server.fresh_url(), s3=ceph_server.settings(num_attempts=1, part_bytes=5 * 2**20))
    acknowledged: list[str] = []
    enough = threading.Semaphore(0)
    with ThreadPoolExecutor(NUM_WRITERS) as threads:
        writers = [threads.submit(write_until_it_fails, store, acknowledged, enough) for _ in range(NUM_WRITERS)]
        for _ in range(NUM_BEFORE_KILL):
            assert enough.acquire(timeout=60)
        ceph.kill_gateway()
        errors = [writer.result(60) for writer in writers]
    ceph.start_gateway()

    assert len(errors) == NUM_WRITERS  # the fault landed: every writer has met it
    assert len(acknowledged) >= NUM_BEFORE_KILL
    keys = set(store.list("objects/").keys)
    assert {f"objects/{digest}" for digest in acknowledged} <= keys
    for key in keys:  # those without an answer too: whole or not there
        assert hashlib.sha256(store.get(key)).hexdigest() == key.removeprefix("objects/")
    assert store.put_if_absent("objects/after", b"") is True


def write_until_it_fails(store: ObjectStore, acknowledged: list[str], enough: threading.Semaphore) -> StorageError:
    while True:
        data = os.urandom(200_000)
        digest = hashlib.sha256(data).hexdigest()
        try:
            store.put_if_absent(f"objects/{digest}", data)
        except StorageError as error:
            return error
        acknowledged.append(digest)
        enough.release()
