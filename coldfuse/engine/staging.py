"""Folders beside a result for what is not it yet: on the same disk, gone afterwards, also after a killed process."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from coldfuse.errors import ColdfuseError, UserInputError

_PROCESS = re.compile(r"-(?P<pid>[0-9]{1,9})$", re.ASCII)
"""How the name of such a folder ends: with the process that made it."""


@contextmanager
def scratch_beside(out: Path, purpose: str) -> Iterator[Path]:
    """Give a folder beside `out` for the block only; remove those that killed processes left there.

    An error of the block that names something in the folder names it in `out` instead, which is what the user knows.

    Args:
        out: The place of the result, where nothing is yet.
        purpose: A word for the folder's name; only folders of the same word are removed.

    Raises:
        UserInputError: `out` exists already, or nothing can be created beside it.
    """
    if os.path.lexists(out):  # also a link to nothing
        raise UserInputError(f"{out}: exists already; give a folder or file that does not")
    _remove_old(out, purpose)
    folder = scratch_folder(out, purpose)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserInputError(f"{out}: cannot be created: {error.strerror}") from error
    try:
        with _named(folder, out):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def scratch_folder(out: Path, purpose: str) -> Path:
    """Return the folder that `scratch_beside` gives, before it is there."""
    return out.parent / f".{out.name}.{purpose}-{os.getpid()}"


@contextmanager
def staged(out: Path, *, made: str = "") -> Iterator[Path]:
    """Give a folder beside `out` that becomes `out` if all goes well.

    Args:
        out: The result, which appears when it is whole.
        made: Name of what becomes `out`, if that is only one file or folder of the given one.
    """
    with scratch_beside(out, "fusing") as folder, _named(folder / made, out):
        yield folder
        os.replace(folder / made, out)


def _remove_old(out: Path, purpose: str) -> None:
    for old in out.parent.glob(f".{glob.escape(out.name)}.{purpose}-*"):
        process = _PROCESS.search(old.name)  # whatever ends otherwise is somebody else's
        if process and not psutil.pid_exists(int(process["pid"])):
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _named(inside: Path, out: Path) -> Iterator[None]:
    """Let errors name `out` where they would name what lies in a folder that is gone when they are read."""
    try:
        yield
    except ColdfuseError as error:
        if str(inside) not in str(error):
            raise
        raise type(error)(str(error).replace(str(inside), str(out))) from error
    except OSError as error:
        if isinstance(error.filename, str | os.PathLike):
            error.filename = os.fspath(error.filename).replace(str(inside), str(out))
        raise
