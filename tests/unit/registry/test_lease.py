from __future__ import annotations

import pytest

from coldfuse.errors import LeaseLostError
from coldfuse.registry.lease import KEY, Lease
from coldfuse.storage import MemoryStore


def is_lost(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLostError:
        return True
    return False


def test_one_leads_and_the_other_is_told_who() -> None:
    store = MemoryStore()
    with Lease(store, ttl_s=30) as first, Lease(store, ttl_s=30) as second:
        assert first.try_acquire() is None
        record = second.try_acquire()
        assert record is not None
        assert record.holder == first.holder
        first.check()
        with pytest.raises(LeaseLostError, match="was lost"):
            second.check()


def test_release_lets_the_next_one_in_at_once() -> None:
    store = MemoryStore()
    first, second = Lease(store, ttl_s=30), Lease(store, ttl_s=30)
    assert first.try_acquire() is None
    assert second.try_acquire() is not None
    first.release()
    assert second.try_acquire() is None
    assert is_lost(first)
    second.release()


def test_of_two_that_find_it_free_one_gets_it() -> None:
    class Racing(MemoryStore):
        def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
            if waiting:
                assert waiting.pop().try_acquire() is None
            return super().compare_and_swap(key, data, etag=etag)

    store, waiting = Racing(), []
    quick, slow = Lease(store, ttl_s=30), Lease(store, ttl_s=30)
    waiting.append(quick)
    record = slow.try_acquire()
    assert record is not None
    assert record.holder == quick.holder
    quick.release()
    slow.release()


def test_a_lease_never_taken_is_released_without_a_trace() -> None:
    store = MemoryStore()
    Lease(store, ttl_s=30).release()
    assert store.head(KEY) is None
