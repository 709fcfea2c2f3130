"""Tasks for Ray: in a module of their own, since workers import them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from coldfuse.engine.fuse import FusedPart, Making, fuse_part
from coldfuse.engine.plan import Shard
from coldfuse.errors import ColdfuseError


def raise_error(error: ColdfuseError, _item: int) -> None:
    raise error


def raise_bug(_shared: None, item: int) -> None:
    raise ZeroDivisionError(f"item {item}")


def tell_process(_shared: None, _item: int) -> int:
    return os.getpid()


def kill_worker_once(shared: tuple[Path, Making], shard: Shard) -> list[FusedPart]:
    """Fuse, but the first time kill the worker after the part was stored and before anybody knows."""
    marker, making = shared
    fused = fuse_part(making, shard)
    try:
        with open(marker, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return fused
    os.kill(os.getpid(), signal.SIGKILL)
    return fused


def stand_still_once(marker: Path, _item: int) -> int:
    """The first time, stop this worker; say which process ends the task."""
    try:
        with open(marker, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()
