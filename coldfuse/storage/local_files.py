"""Files that survive a crash: what `LocalStore` is made of, each part with its reason.

A temporary file is locked (flock) by its writer for as long as the writer lives. The kernel drops the lock when the
process dies, however it dies, so whoever gets the lock knows that the writer is gone: no clock and no process number is
trusted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from coldfuse.durable import advise, make_folder, permissions_in
from coldfuse.errors import ObjectNotFoundError, StorageError

LOCK_TIMEOUT_S = 30.0
_PASSING = frozenset({
    errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENOMEM, errno.EMFILE,
    errno.ENFILE, errno.ENOLCK, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ECONNRESET, errno.ECONNREFUSED, errno.ENOTCONN, errno.EREMOTEIO,
})  # fmt: skip
"""What disks and network file systems report and may not report again."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAX_READ_BYTES = 2**30  # Linux reads no more than 2 GiB at once, and Python would set aside all that is asked for


def storage_error(error: OSError, path: Path) -> StorageError:
    """Return the error as one sentence that says what happened, where, and what to do."""
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError(f"{path}: no such object")
    reason = advise(error) or f"{error.strerror or error}; look at the folder"
    return StorageError(f"{path}: {reason}", may_pass=error.errno in _PASSING, is_full=error.errno in _FULL)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into a `StorageError`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write every byte; the system may take fewer at a time."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_range(fd: int, start: int, length: int | None) -> bytes:
    """Return bytes `start` to `start + length`, to the end without length, and fewer where the file ends."""
    left = max(0, os.fstat(fd).st_size - start)
    left = left if length is None else min(left, length)
    pieces = []
    while left and (piece := os.pread(fd, min(left, _MAX_READ_BYTES), start)):
        pieces.append(piece)
        start, left = start + len(piece), left - len(piece)
    return b"".join(pieces)  # of a single piece join makes no copy


@contextmanager
def reading(path: Path) -> Iterator[int]:
    """Open the regular file for the block; a folder, or anything below a file, is a `FileNotFoundError`."""
    fd = _open_for_reading(path)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_for_reading(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY)
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    if os.path.isdir(fd):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return fd


class OpenFile:
    """A descriptor that closes when its last user lets go, so that a cache can drop it in the middle of a read."""

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self.fd = _open_for_reading(path)

    def __del__(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            os.close(self.fd)


class TemporaryFile:
    """A file without a key yet, locked by this process; closing it removes it from the folder."""

    def __init__(self, folder: Path) -> None:
        self.path, self.fd = _create_locked(folder)

    @property
    def is_closed(self) -> bool:
        """True once `close` was called."""
        return self.fd < 0

    def close(self) -> None:
        """Remove the temporary name and let go of the file; harmless when done twice."""
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        try:
            self.path.unlink(missing_ok=True)
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough where a forked child holds a copy of fd
            os.close(fd)

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _create_locked(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / uuid.uuid4().hex
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, permissions_in(folder, 0o666))
        except FileNotFoundError:
            make_folder(folder, private=folder.parents[1])  # the store's own folder
            continue
        if _try_lock(fd) and os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)  # a collector was faster than our lock, took the file for a dead one's and removes it


def remove_dead_files(folder: Path, *, older_than_s: float) -> int:
    """Remove the temporary files of writers that are gone, and return how many."""
    num_removed = 0
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return 0
    for name in names:
        num_removed += _remove_if_dead(folder / name, older_than_s=older_than_s)
    return num_removed


def _remove_if_dead(path: Path, *, older_than_s: float) -> bool:
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        if time.time() - os.fstat(fd).st_mtime < older_than_s or not _try_lock(fd):
            return False
        path.unlink(missing_ok=True)  # still locked: a writer that has just made it sees that it lost its name
        return True
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at path, against threads and processes. Lock files stay: removing them would race."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, permissions_in(path.parent, 0o666))
    except FileNotFoundError:
        make_folder(path.parent, private=path.parents[2])
        fd = os.open(path, os.O_RDWR | os.O_CREAT, permissions_in(path.parent, 0o666))
    try:
        _wait_for_lock(fd, path)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # see TemporaryFile.close
        os.close(fd)


def _wait_for_lock(fd: int, path: Path) -> None:
    # Polled, not waited for: a process that is stopped while it holds the lock must not stop everybody else for ever.
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    pause_s = 0.0005
    while not _try_lock(fd):
        if time.monotonic() > deadline:
            raise StorageError(f"{path}: another process has held this lock for {LOCK_TIMEOUT_S:.0f} s; is it stopped?")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.01)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
