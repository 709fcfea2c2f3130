"""A store in a folder, with the guarantees of S3 for all processes that use it, and after a crash of any.

An object is written to a temporary file, synced, and then given its name in one step, so that a name never leads to
half of it. `link` is that step, as it fails where the name is taken. File systems without hard links (FAT, some network
and user space ones) get the same from a lock, a look and a rename: the lock is the one that `compare_and_swap` needs in
any case, so nothing more is asked of them.

The folder must be one file system, and its machines must agree on flock (local disks, NFSv4, Lustre with `-o flock`).
The folder is created for its owner alone, and what lies in it is as private as the folder: users who share a store make
it themselves, for their group and with the set-group-ID bit (`mkdir -m 2770`), and keep a umask of 007.
One key cannot lie below another (`a` and `a/b`), as a file is no folder. A process that is stopped (not killed) in the
microseconds in which it swaps keeps the lock of that key: the others say so, and go on when it does or is killed.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from functools import lru_cache
from itertools import islice
from pathlib import Path

from coldfuse.errors import ConflictError, StorageError
from coldfuse.storage.base import MAX_POINTER_BYTES, ObjectInfo, ObjectWriter, Page
from coldfuse.storage.keys import RESERVED, check_key, check_limit, check_range
from coldfuse.storage.local_files import (
    OpenFile,
    TemporaryFile,
    locked,
    read_range,
    reading,
    remove_dead_files,
    storage_error,
    translated,
    write_all,
)
from coldfuse.storage.local_names import NO_HARD_LINKS, name_if_absent, remove_empty_folders, sync_names, walk

MAX_OPEN_FILES = 64
MAX_HASHED_BYTES = 2**20


class LocalStore:
    """Objects as files below a folder, which is created with the first object."""

    def __init__(self, root: str | os.PathLike[str], *, has_links: bool = True) -> None:
        """Open the store; nothing is touched yet.

        Args:
            root: The folder.
            has_links: False: do without hard links from the start, as the store does by itself where there are none.
        """
        folder = Path(root).absolute()
        self._root = folder
        self._has_links = has_links
        self._temporary = folder / RESERVED / "tmp"
        # lru_cache holds no lock that a fork could leave locked, and makes no cycle that would keep files open.
        self._open_file = lru_cache(maxsize=MAX_OPEN_FILES)(lambda key: OpenFile(folder / check_key(key)))

    def __reduce__(self) -> tuple[type[LocalStore], tuple[str]]:
        """Travel to another process as the url alone."""
        return LocalStore, (self.url,)

    @property
    def url(self) -> str:
        """The folder as an absolute path, since other processes have other working folders."""
        return str(self._root)

    @property
    def identity(self) -> str:
        """The folder, and the device that it lies on."""
        with translated(self._root):
            there = next(path for path in (self._root, *self._root.parents) if path.exists())  # it comes with use
            return f"{self._root} on device {os.stat(there).st_dev}"

    def head(self, key: str) -> ObjectInfo | None:
        """Return size and etag, or None when there is no such object."""
        path = self._path(key)
        with translated(path):
            return _info(path)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Return a range of the object."""
        check_range(start, length)
        path = self._path(key)
        with translated(path), reading(path) as fd:
            return read_range(fd, start, length)

    def read_into(self, key: str, buffer: memoryview, *, start: int = 0) -> None:
        """Fill the whole buffer from `start` of an object that never changes; its file stays open for the next read."""
        check_range(start, None)
        rest = buffer.cast("B")
        try:
            file = self._open_file(key)
            while rest:
                num_read = os.preadv(file.fd, [rest], start)
                if num_read == 0:
                    raise StorageError(
                        f"{self._path(key)}: ends at or before byte {start}, {len(rest)} more were wanted"
                    )
                rest, start = rest[num_read:], start + num_read
        except OSError as error:
            raise storage_error(error, self._path(key)) from error

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return the whole object and its etag."""
        path = self._path(key)
        with translated(path), reading(path) as fd:  # a swap renames, so this stays one version of the object
            return read_range(fd, 0, MAX_POINTER_BYTES), _etag(fd)

    def put_if_absent(self, key: str, data: bytes | memoryview) -> bool:
        """Create the object; False if the key was taken."""
        path = self._path(key)
        with translated(path):
            if path.is_file():
                sync_names(path, self._root)  # who is told that it is there relies on it, and its writer may be slow
                return False
            with TemporaryFile(self._temporary) as file:
                write_all(file.fd, data)
                return self._publish(file, key)

    def compare_and_swap(self, key: str, data: bytes, *, etag: str | None) -> str:
        """Replace the content that had this etag (None: there was no object), and return the new etag."""
        path = self._path(key)
        with translated(path), TemporaryFile(self._temporary) as file:
            write_all(file.fd, data)
            new_etag = _etag(file.fd)
            if etag is None:
                if not self._publish(file, key):
                    raise ConflictError(f"{path}: exists already; read it and decide again")
                return new_etag
            os.fsync(file.fd)
            with self._locked(key):
                info = _info(path)
                if info is None or info.etag != etag:
                    raise ConflictError(f"{path}: was changed by somebody else; read it and decide again")
                os.replace(file.path, path)
            sync_names(path, self._root)  # after the lock, which a process may be stopped with: the shorter, the better
            return new_etag

    def open_writer(self, key: str) -> LocalWriter:
        """Start an object that is written in pieces."""
        path = self._path(key)
        with translated(path):
            return LocalWriter(self, key, TemporaryFile(self._temporary))

    def list(self, prefix: str, *, after: str | None = None, limit: int = 1000) -> Page:
        """Return at most `limit` keys that begin with prefix and come after `after`."""
        check_limit(limit)
        with translated(self._root):
            found = tuple(islice(walk(self._root, prefix=prefix, after=after), limit + 1))
        return Page(keys=found[:limit], next_after=found[limit - 1] if len(found) > limit else None)

    def delete(self, key: str) -> None:
        """Remove the object, and the folders that this leaves empty; no error when there is none."""
        path = self._path(key)
        with translated(path):
            if not path.is_file():
                return
            with self._locked(key):  # a swap that has compared already must not bring it back
                path.unlink(missing_ok=True)
            sync_names(path, self._root)
            self._open_file.cache_clear()  # an open file would keep its space
            remove_empty_folders(path.parent, self._root)

    def collect_garbage(self, *, older_than_s: float) -> int:
        """Remove temporary files of dead writers; see `coldfuse.storage.collect_garbage`."""
        with translated(self._temporary):
            return remove_dead_files(self._temporary, older_than_s=older_than_s)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _locked(self, key: str) -> AbstractContextManager[None]:
        bucket = hashlib.sha256(key.encode()).hexdigest()[:2]
        return locked(self._root / RESERVED / "locks" / bucket)

    def _publish(self, file: TemporaryFile, key: str) -> bool:
        """Make the finished file visible and durable under its key; False if that is taken."""
        os.fsync(file.fd)
        path = self._root / key
        is_new = self._name(file.path, key)
        sync_names(path, self._root)
        return is_new

    def _name(self, source: Path, key: str) -> bool:
        if self._has_links:
            try:
                return name_if_absent(source, self._root / key, by_link=True)
            except OSError as error:
                if error.errno not in NO_HARD_LINKS:
                    raise
                self._has_links = False
        with self._locked(key):
            return name_if_absent(source, self._root / key, by_link=False)


class LocalWriter(ObjectWriter):
    """Writes a temporary file, which becomes the object at `commit`."""

    def __init__(self, store: LocalStore, key: str, file: TemporaryFile) -> None:
        self._store = store
        self._key = key
        self._file = file

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._require_open()
        with self._translated():
            write_all(self._file.fd, data)

    def commit(self) -> bool:
        """Make the object visible, durable and whole; False if the key was already taken."""
        self._require_open()
        with self._translated(), self._file:
            return self._store._publish(self._file, self._key)

    def abort(self) -> None:
        """Drop what was written."""
        with self._translated():
            self._file.close()

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._store._path(self._key))

    def _require_open(self) -> None:
        if self._file.is_closed:
            raise StorageError(f"{self._store._path(self._key)}: the writer is closed; open another")


def _info(path: Path) -> ObjectInfo | None:
    try:
        with reading(path) as fd:
            return ObjectInfo(size_bytes=os.fstat(fd).st_size, etag=_etag(fd))
    except FileNotFoundError:
        return None


def _etag(fd: int) -> str:
    """Return the digest of a small file; of a large one what tells it from others, since `head` must not read it all.

    Each version is a file of its own that exists beside the one it replaces, so two in a row never share the inode.
    """
    state = os.fstat(fd)
    if state.st_size > MAX_HASHED_BYTES:
        return f"{state.st_ino:x}-{state.st_mtime_ns:x}-{state.st_size:x}"
    return hashlib.sha256(read_range(fd, 0, None)).hexdigest()
