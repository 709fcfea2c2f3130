"""A gateway in a process of its own, whose memory and connections can be counted."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import psutil
from federations import make_federation, open_round

from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore

MIB = 1 << 20


class GatewayProcess:
    """`coldfuse gateway` on a folder with an open round."""

    def __init__(self, folder: Path, *options: str, prepare: Callable[[], object] | None = None) -> None:
        """Start it; `prepare` runs in the new process, before anything else, and its words stay in the pipe."""
        self.federation = make_open_federation(folder)
        command = [sys.executable, "-m", "coldfuse", "gateway", str(folder), *options]
        words = subprocess.PIPE if prepare else None
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True, preexec_fn=prepare)  # noqa: PLW1509
        self.address = self.process.stdout.readline().removeprefix("listening on ").strip()
        self.seen = psutil.Process(self.process.pid)

    @property
    def memory_mib(self) -> float:
        return self.seen.memory_info().rss / MIB

    @property
    def peak_mib(self) -> float:
        """The process's memory at its most, from its beginning."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))

    @property
    def num_connections(self) -> int:
        return sum(each.status == psutil.CONN_ESTABLISHED for each in self.seen.net_connections("tcp"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def make_open_federation(folder: Path) -> Federation:
    if (folder / "federation.json").exists():
        from coldfuse.registry.federation import open_federation

        return open_federation(LocalStore(folder))
    federation = make_federation(LocalStore(folder))
    open_round(federation)
    return federation


def most_memory(gateway: GatewayProcess, *, for_s: float) -> float:
    """Watch a gateway's memory for a while, and return the largest value."""
    deadline, largest = time.monotonic() + for_s, 0.0
    while time.monotonic() < deadline:
        largest = max(largest, gateway.memory_mib)
        time.sleep(0.05)
    return largest


__all__: Sequence[str] = ("MIB", "GatewayProcess", "make_open_federation", "most_memory")
