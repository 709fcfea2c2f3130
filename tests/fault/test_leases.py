"""Leases in real time: kept by who renews them, and lost by who falls silent."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from coldfuse.errors import LeaseLostError, StorageError
from coldfuse.registry.lease import Lease, read_lease
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


def test_a_lease_is_renewed_for_longer_than_it_lives() -> None:
    store = MemoryStore()
    with Lease(store, ttl_s=TTL_S) as first, Lease(store, ttl_s=TTL_S) as second:
        assert first.try_acquire() is None
        wait_until(lambda: (read_lease(store)[0] or pytest.fail("no lease")).renewal > 6)
        assert second.try_acquire() is not None
        first.check()


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


def test_a_leader_whose_work_stands_still_gives_the_lease_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    store, works = MemoryStore(), True
    first, second = Lease(store, ttl_s=TTL_S, moves=lambda: works), Lease(store, ttl_s=60)
    assert first.try_acquire() is None
    wait_until(lambda: (read_lease(store)[0] or pytest.fail("no lease")).renewal > 3)
    assert second.try_acquire() is not None
    works = False
    wait_until(lambda: is_lost(first))
    wait_until(lambda: second.try_acquire() is None)
    first.release()
    assert (read_lease(store)[0] or pytest.fail("no lease")).holder == second.holder
    second.release()
    assert f"{first.holder} gives the lease up" in caplog.text


def test_a_lease_that_cannot_be_renewed_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    store = FrozenStore()
    with Lease(store, ttl_s=TTL_S) as lease:
        assert lease.try_acquire() is None
        store.refused = lease.holder
        wait_until(lambda: store.fired >= 3)
        store.refused = None
    assert caplog.text.count("cannot be renewed: injected") == 1
