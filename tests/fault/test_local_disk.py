"""A disk that refuses or fails at the n-th call of every kind, for all n: nothing is torn, and it can be done again."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coldfuse import durable
from coldfuse.errors import ConflictError, ObjectNotFoundError, StorageError
from coldfuse.storage import LocalStore, ObjectStore, PatientStore, ensure_suitable, local, local_files, local_names

CALLS = ("open", "write", "fsync", "link", "replace", "mkdir")
LARGE = bytes(range(256)) * 10


class FailingOs:
    """The os module, of which one call fails."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.fired = 0
        self._armed: tuple[str, int, int, bool] | None = None

    def arm(self, call: str, *, at: int, number: int, lasts: bool) -> None:
        """Let the n-th call from now on fail; and all after it, if it lasts."""
        self.calls.clear()
        self.fired = 0
        self._armed = (call, at, number, lasts)

    def heal(self) -> None:
        self._armed = None

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        return self._failing(name, real) if name in CALLS else real

    def _failing(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            self.calls[name] += 1
            armed = self._armed
            if armed and armed[0] == name and (self.calls[name] == armed[1] or (armed[3] and self.fired)):
                self.fired += 1
                raise OSError(armed[2], os.strerror(armed[2]))
            return real(*args, **options)

        return call


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingOs]:
    failing = FailingOs()
    for module in (local, local_files, local_names, durable):
        monkeypatch.setattr(module, "os", failing)
    monkeypatch.setattr(Path, "mkdir", lambda path, mode=0o777: failing.mkdir(path, mode))
    yield failing
    failing.heal()


def swap(store: ObjectStore, key: str, data: bytes) -> None:
    """Write a pointer over what is there; one that is written already is fine."""
    try:
        before, etag = store.get_with_etag(key)
    except ObjectNotFoundError:
        before, etag = None, None
    if before != data:
        store.compare_and_swap(key, data, etag=etag)


def write_large(store: ObjectStore) -> None:
    with store.open_writer("objects/large") as writer:
        for start in range(0, len(LARGE), 1024):
            writer.write(LARGE[start : start + 1024])
        writer.commit()


STEPS: list[Callable[[ObjectStore], object]] = [
    lambda store: store.put_if_absent("objects/a", b"aaa"),
    lambda store: swap(store, "rounds/1/head", b"1"),
    lambda store: swap(store, "rounds/1/head", b"2"),
    write_large,
]


def require_whole(root: Path) -> None:
    """Look with another store that all is there, and nothing else."""
    store = LocalStore(root)
    wanted = {"objects/a": b"aaa", "objects/large": LARGE, "rounds/1/head": b"2"}
    assert {key: store.get(key) for key in store.list("").keys} == wanted
    assert list((root / ".coldfuse" / "tmp").iterdir()) == []


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_a_disk_that_refuses_leaves_what_was_there_and_it_can_be_done_again(
    tmp_path: Path, disk: FailingOs, call: str, number: int
) -> None:
    for at in range(1, 100):
        root = tmp_path / str(at)
        store = PatientStore(LocalStore(root))
        disk.arm(call, at=at, number=number, lasts=True)
        refused = []
        for step in STEPS:
            try:
                step(store)
            except StorageError as error:
                refused.append(error)
                disk.heal()
                step(store)
        assert len(refused) == (disk.fired > 0)
        assert all(error.is_full == (number == errno.ENOSPC) and not error.may_pass for error in refused)
        disk.heal()  # it may not have come to that call
        require_whole(root)
        if not refused:
            break
    assert 1 < at < 99


@pytest.mark.parametrize("call", CALLS)
def test_a_disk_that_fails_in_passing_is_not_noticed_but_by_who_writes_in_pieces(
    tmp_path: Path, disk: FailingOs, call: str
) -> None:
    for at in range(1, 100):
        root = tmp_path / str(at)
        store = PatientStore(LocalStore(root))
        disk.arm(call, at=at, number=errno.EIO, lasts=False)
        for step in STEPS[:3]:
            step(store)
        try:
            write_large(store)
        except StorageError as error:
            assert error.may_pass  # noqa: PT017 - it may be raised or not
            write_large(store)
        disk.heal()  # it may not have come to that call
        require_whole(root)
        if not disk.fired:
            break
    assert 1 < at < 99


def test_a_full_disk_is_read_and_started_on(tmp_path: Path, disk: FailingOs) -> None:
    store = PatientStore(LocalStore(tmp_path / "store"))
    store.put_if_absent("objects/a", b"aaa")
    disk.arm("write", at=1, number=errno.ENOSPC, lasts=True)
    assert "free some space" in (ensure_suitable(store) or "")
    assert store.get("objects/a") == b"aaa"
    with pytest.raises(StorageError, match="free some space"):
        store.put_if_absent("objects/b", b"b")
    disk.heal()
    assert ensure_suitable(store) is None
    disk.arm("write", at=1, number=errno.ENOSPC, lasts=True)
    assert ensure_suitable(store) is None
    assert disk.fired == 0


def test_a_conflict_is_no_fault_of_the_disk(tmp_path: Path, disk: FailingOs) -> None:
    store = PatientStore(LocalStore(tmp_path / "store"))
    etag = store.compare_and_swap("key", b"1", etag=None)
    store.compare_and_swap("key", b"2", etag=etag)
    disk.arm("fsync", at=1, number=errno.EIO, lasts=False)
    with pytest.raises(ConflictError):
        store.compare_and_swap("key", b"3", etag=etag)
    assert disk.fired == 1
    assert store.get("key") == b"2"
