"""Names in a folder as keys: giving a finished file its key, and listing keys in the order of S3."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from coldfuse.durable import make_folder, sync_folder
from coldfuse.errors import StorageError
from coldfuse.storage.keys import RESERVED

NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_MAX_TRIES = 100


def name_if_absent(source: Path, path: Path, *, by_link: bool) -> bool:
    """Give a finished file its name in one step; False, and nothing changed, if another file has it.

    Tries again where somebody removes a folder that was empty for a moment, or leaves an empty one in our place.

    Args:
        source: The file's temporary name.
        path: The name it gets.
        by_link: True: link, which fails where the name is taken. False: look and rename, under the key's lock.
    """
    for _ in range(_MAX_TRIES):
        try:
            make_folder(path.parent, private=source.parents[2])  # the store's own folder, which gives what it likes
            if by_link:
                os.link(source, path)
            elif path.is_file():
                return False
            else:
                os.rename(source, path)
            return True
        except FileNotFoundError:
            continue
        except (FileExistsError, IsADirectoryError):
            if path.is_file():
                return False
            _remove_if_empty(path)
    raise StorageError(f"{path}: its folder, or {source}, vanished {_MAX_TRIES} times; does something clean up here?")


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from error


def sync_names(path: Path, root: Path) -> None:
    """Make a name durable with all folders above it, whoever made them: their maker may not have come to it yet."""
    folder = path.parent
    sync_folder(folder)
    while folder != root:
        folder = folder.parent
        sync_folder(folder)


def remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove the folder and those above it, below root, for as long as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:  # not empty, or somebody else's by now: either way it is not ours to remove
            return
        folder = folder.parent


def walk(root: Path, *, prefix: str, after: str | None) -> Iterator[str]:
    """Yield in ascending order the keys below root that begin with prefix and come after `after`.

    A folder is sorted as its name with a slash, since that is what its keys begin with: `a.b` comes before `a/b`.
    """
    base = prefix[: prefix.rfind("/") + 1]
    folders = base.split("/")[:-1]
    if folders[:1] == [RESERVED] or any(folder in ("", ".", "..") for folder in folders):
        return  # no key looks like this, and the folder might lie outside the store
    yield from _walk(root, base, prefix=prefix, after=after)


def _walk(root: Path, base: str, *, prefix: str, after: str | None) -> Iterator[str]:
    for key in sorted(base + name for name in _names(root / base)):
        if key == f"{RESERVED}/":
            continue
        if key.endswith("/"):
            fits = key.startswith(prefix) or prefix.startswith(key)
            if fits and (after is None or key > after or after.startswith(key)):
                yield from _walk(root, key, prefix=prefix, after=after)
        elif key.startswith(prefix) and (after is None or key > after):
            yield key


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):  # removed since we saw it, or never there
        return []
