"""Run programs in turns, each as a process of its own, and see what time and memory they take."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.errors import ColdfuseError

_INTERVAL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a program took."""

    wall_s: float
    """Time from its start to its end."""
    cpu_s: float
    """Processor time of it and of the processes that it waited for."""
    peak_mib: float
    """Largest resident memory of its own process."""
    last_line: str
    """Last line of its standard output."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A median, and the values between which all lay."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise values, of which there is at least one."""
        return cls(median=statistics.median(values), min=min(values), max=max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.min:.2f}–{self.max:.2f})"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A command to measure."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    """Variables to set beside those of this process."""


def in_turns(programs: Sequence[Program], num_runs: int, prepare: Callable[[], None]) -> dict[str, list[Run]]:
    """Run one program after the other, A B A B, so that what else the machine does meets all of them.

    Args:
        programs: What is run, in this order.
        num_runs: Counted runs of each; one more comes before them and warms up.
        prepare: Called before every run; it removes what the last one made.
    """
    runs: dict[str, list[Run]] = {program.name: [] for program in programs}
    for number in range(num_runs + 1):
        for program in programs:
            prepare()
            found = run_program(program)
            if number > 0:
                runs[program.name].append(found)
    prepare()
    return runs


def run_program(program: Program) -> Run:
    """Run a program to its end. Raises `ColdfuseError` with its last words if it fails."""
    environment = {**os.environ, **(program.environment or {})}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            program.command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment
        )
        with _Watch(process.pid) as watch:
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)  # it need not wait for what has ended
        if process.returncode != 0:
            errors.seek(0)
            words = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
            raise ColdfuseError(f"{program.name} ended with status {process.returncode}: {' / '.join(words[-3:])}")
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    return Run(
        wall_s=wall_s, cpu_s=usage.ru_utime + usage.ru_stime, peak_mib=watch.peak_mib, last_line=(lines or [""])[-1]
    )


class _Watch:
    """Asks the kernel for a process's peak memory as long as it runs: `ru_maxrss` would count what started it, too."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak_mib = 0.0

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                lines = self._path.read_text(encoding="ascii", errors="replace").splitlines()
            except OSError:  # it ended, or this system has no such file
                return
            found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
            self.peak_mib = max([self.peak_mib, *found])
            self._stop.wait(_INTERVAL_S)
