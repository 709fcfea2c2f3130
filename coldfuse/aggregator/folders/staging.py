"""Folders beside a result for what is not it yet: on the same disk, gone afterwards, also after a killed process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from coldfuse.errors import UserInputError


@contextmanager
def scratch_beside(out: Path, purpose: str) -> Iterator[Path]:
    """Give a folder beside `out` for the block only; remove those that killed processes left there."""
    for old in out.parent.glob(f".{out.name}.{purpose}-*"):
        if not psutil.pid_exists(int(old.name.rpartition("-")[2])):
            shutil.rmtree(old, ignore_errors=True)
    folder = out.parent / f".{out.name}.{purpose}-{os.getpid()}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UserInputError(f"{out}: cannot be created: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def staged(out: Path, *, made: str = "") -> Iterator[Path]:
    """Give a folder beside `out` that becomes `out` if all goes well, or what is `made` in it does."""
    with scratch_beside(out, "fusing") as folder:
        yield folder
        os.replace(folder / made, out)
