from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from coldfuse.errors import LeaseLostError, StorageError
from coldfuse.registry.lease import KEY, Lease, read_lease
from coldfuse.storage import MemoryStore

TTL_S = 0.2


class FrozenStore(MemoryStore):
    """Refuses one holder's swaps on demand, as a store out of reach does; that holder is paused or cut off."""

    refused: str | None = None
    fired = 0

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        if self.refused and self.refused.encode() in data:
            self.fired += 1
            raise StorageError("injected")
        return super().compare_and_swap(key, data, etag=etag)


def wait_until(condition: Callable[[], bool], *, limit_s: float = 10.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_s, "waited in vain"
        time.sleep(0.005)
    return time.monotonic() - began


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


def test_a_lease_is_renewed_for_longer_than_it_lives() -> None:
    store = MemoryStore()
    with Lease(store, ttl_s=TTL_S) as first, Lease(store, ttl_s=TTL_S) as second:
        assert first.try_acquire() is None
        wait_until(lambda: (read_lease(store)[0] or pytest.fail("no lease")).renewal > 6)
        assert second.try_acquire() is not None
        first.check()


def test_release_lets_the_next_one_in_at_once() -> None:
    store = MemoryStore()
    first, second = Lease(store, ttl_s=30), Lease(store, ttl_s=30)
    assert first.try_acquire() is None
    assert second.try_acquire() is not None
    first.release()
    assert second.try_acquire() is None
    assert is_lost(first)
    second.release()


def test_a_silent_leader_is_succeeded_after_its_time_and_not_before() -> None:
    store = FrozenStore()
    first, second = Lease(store, ttl_s=TTL_S), Lease(store, ttl_s=TTL_S)
    assert first.try_acquire() is None
    store.refused = first.holder
    assert second.try_acquire() is not None
    waited_s = wait_until(lambda: second.try_acquire() is None)
    assert waited_s >= TTL_S * 0.9
    assert store.fired > 0
    assert is_lost(first)
    second.release()
    first.release()


def test_a_leader_that_comes_back_sees_that_it_was_succeeded() -> None:
    store = FrozenStore()
    first, second = Lease(store, ttl_s=TTL_S), Lease(store, ttl_s=30)
    assert first.try_acquire() is None
    store.refused = first.holder
    wait_until(lambda: second.try_acquire() is None)
    store.refused = None
    wait_until(lambda: is_lost(first))
    first.release()
    assert read_lease(store)[0].holder == second.holder  # type: ignore[union-attr]
    second.check()
    second.release()


def test_a_short_outage_does_not_lose_the_lease() -> None:
    store = FrozenStore()
    with Lease(store, ttl_s=1.2) as lease:
        assert lease.try_acquire() is None
        store.refused = lease.holder
        wait_until(lambda: store.fired > 0)
        store.refused = None
        lease.check()
        wait_until(lambda: (read_lease(store)[0] or pytest.fail("no lease")).renewal > 1)
        lease.check()


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
