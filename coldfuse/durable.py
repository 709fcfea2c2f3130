"""Files that are there whole or not at all, whatever is killed and whenever, also when the machine loses its power.

A file is written under another name beside its own, synced, renamed, and the folder that holds the name is synced. A
kill leaves the old file or the new one, and at most an unfinished one beside it, which the next writer removes. One
writer at a time: who shares a path holds a lock.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coldfuse.errors import UserInputError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space or raise it",
    errno.EFBIG: "the file is larger than the file system or this process may write; raise `ulimit -f`",
    errno.EACCES: "permission denied; let this user read and write the folder",
    errno.EPERM: "the operation is not permitted; let this user read and write the folder",
    errno.EROFS: "the file system is read-only; mount it writable or choose another folder",
    errno.EXDEV: "the folder spans several file systems, a single one is needed",
    errno.EMFILE: "this process has too many open files; raise `ulimit -n`",
    errno.ENFILE: "the machine has too many open files; raise fs.file-max",
    errno.EIO: "the disk reports an error; look into the system's log and replace it",
    errno.ENOTDIR: "a file lies where a folder is needed; remove that file or choose another folder",
    errno.EEXIST: "a file lies where a folder is needed; remove that file or choose another folder",
    errno.EISDIR: "a folder lies where a file is needed; remove that folder or choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter name or folder",
    errno.ENOENT: "it is gone, or a folder on the way to it; look where it is or choose another",
    errno.ENOLCK: "the file system gives no locks; mount it with locks or choose another folder",
    errno.ESTALE: "the network file system has lost the file; mount it again",
    errno.ENOMEM: "there is too little memory; free some",
}

UNFINISHED = ".part"
"""What stands behind a file's name while it is written."""


DAMAGED = ".damaged"
"""What stands behind a file's name once it was found damaged."""

OnDamage = Callable[[str], None]
"""on_damage(sentence): is told what was found damaged, and what becomes of it."""


class WholeFile:
    """A file on its way to its name."""

    def __init__(self, path: Path) -> None:
        self._path, self._unfinished = path, _unfinished(path)
        with explained(path):
            make_folder(path.parent)
            self._unfinished.unlink(missing_ok=True)  # of a writer that was killed
            self._file = open(self._unfinished, "xb")  # noqa: SIM115  # closed by `finish` or `discard`

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        with explained(self._path):
            self._file.write(data)

    def finish(self) -> None:
        """Put the file under its name, with all its bytes on the disk before."""
        with explained(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.replace(self._unfinished, self._path)
            sync_folder(self._path.parent)  # else a power cut may take the new name back

    def discard(self) -> None:
        """Remove what was written; nothing happens once it is finished."""
        try:
            self._file.close()
        except OSError:  # what is still in the buffer does not fit on the disk, and is not wanted either
            pass
        self._unfinished.unlink(missing_ok=True)


@contextmanager
def writing_whole(path: Path) -> Iterator[WholeFile]:
    """Write a file in pieces: it appears when the block ends, and not at all if the block raises.

    Args:
        path: The file, which is replaced if there is one. Folders that it lacks are created.

    Raises:
        UserInputError: The file cannot be written: the disk is full, or the folder is not this user's.
    """
    file = WholeFile(path)
    try:
        yield file
        file.finish()
    finally:
        file.discard()


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file at once; see `writing_whole`."""
    with writing_whole(path) as file:
        file.write(data)


def remove_whole(path: Path) -> None:
    """Remove a file, if there is one, and what a killed writer left of it."""
    for name in (path, _unfinished(path)):
        name.unlink(missing_ok=True)


def set_aside(path: Path, why: str, *, then: str, tell: OnDamage) -> None:
    """Rename what is damaged, so that it is no longer in the way, and say so.

    Args:
        path: The file.
        why: What is wrong with it.
        then: What becomes of its work, the end of the sentence.
        tell: Is told.

    Raises:
        UserInputError: It cannot be renamed.
    """
    aside = path.with_name(f"{path.name}{DAMAGED}")
    with explained(path, "set aside"):
        if aside.is_dir():
            shutil.rmtree(aside)
        os.replace(path, aside)
    tell(f"{path}: {why}; it was set aside as {aside.name}, and {then}")


def sync_files(paths: Iterable[Path]) -> None:
    """Make what was written to files durable. Raises `UserInputError` where the disk refuses."""
    for path in paths:
        with explained(path), open(path, "r+b") as file:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; a folder that is gone has none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(path: Path, *, private: Path | None = None) -> None:
    """Create a folder and those above it, durably. One that another process removes meanwhile is an `ENOENT`.

    Args:
        path: The folder.
        private: A folder on the way that only this user may enter, if it has to be created. If it is there it keeps its
            permissions, and what is created in it gives nobody more, see `permissions_in`.
    """
    if path.is_dir():
        return
    make_folder(path.parent, private=private)
    try:
        if private is None or not path.is_relative_to(private):
            path.mkdir()
        else:
            path.mkdir(0o700 if path == private else permissions_in(path.parent, 0o777))
    except FileExistsError:
        # One look decides: what was there may be gone by now, which is no file in the way. A link to nothing is.
        if (path.is_symlink() and not path.exists()) or not stat.S_ISDIR(path.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None
    sync_folder(path.parent)


def permissions_in(folder: Path, usual: int) -> int:
    """Return the permissions of a new file or folder: the usual ones, but to nobody to whom its folder gives none.

    So all that lies in a private folder is private, whatever the user's umask, also once it is moved elsewhere; and in
    a folder that several users share, the umask decides.

    Args:
        folder: The folder that it lies in.
        usual: What the umask would be applied to.
    """
    given = folder.stat().st_mode
    for others in (0o070, 0o007):
        if not given & others:
            usual &= ~others
    return usual


def _unfinished(path: Path) -> Path:
    return path.with_name(f"{path.name}{UNFINISHED}")


def advise(error: OSError) -> str | None:
    """Return what to do about what the operating system refuses; None where only its own words say more."""
    return _ADVICE.get(error.errno or 0)


@contextmanager
def explained(path: Path, what: str = "written") -> Iterator[None]:
    """Turn an `OSError` of the block into a `UserInputError` that says where, why, and what to do.

    Args:
        path: What the block works on; an error that names a file itself is told of that.
        what: What cannot be done to it.
    """
    try:
        yield
    except OSError as error:
        place = os.fsdecode(error.filename2 or error.filename or path).removesuffix(UNFINISHED)
        reason = error.strerror or error
        advice = (advise(error) or "look at the folder, or choose another").rpartition("; ")[2]
        raise UserInputError(f"{place}: cannot be {what}: {reason}; {advice}") from error


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return what is another with each version of a file; None where there is none."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
