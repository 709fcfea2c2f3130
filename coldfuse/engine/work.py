"""Whether the processes that do the work move: what they have computed and read, and which of them stand still.

A process that was stopped (SIGSTOP, a debugger, a frozen container) takes its task with it and says nothing. It is
found by its state, and a task that hangs by what its process has done: nothing. Time alone is no sign of either, since
a task may rightly take hours.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping

import psutil

STILL_S = 5.0
"""Seconds that a process may be stopped: somebody who looks at it with a debugger, or a machine that slept."""

_MOVED_CPU_S = 0.2
_MOVED_SHARE = 0.05
"""Seconds of processor time, and share of the time since, that are work; an idle Ray process takes less."""

_MOVED_BYTES = 4 << 20
"""Number of bytes read and written that are work; Ray's own traffic is less."""

_WITHOUT_TASK = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "ray::tend_machine")

Done = tuple[float, float]
"""Seconds of processor time that a process has taken, and bytes that it has read and written."""


class Watch:
    """When work was last seen, by what processes say that they have done. All times are of one monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self.moved_at_s = now_s
        """When work was last seen."""
        self._begun: dict[Hashable, Done] = {}
        self._stopped_since: dict[int, float] = {}

    def moved(self, now_s: float) -> None:
        """Say that work was done, seen otherwise: a task has ended."""
        self.moved_at_s = now_s
        self._begun.clear()

    def look(self, done: Mapping[Hashable, Done], now_s: float) -> None:
        """See whether these processes have worked since work was last seen; those that are new count from now on."""
        cpu_s = size = 0.0
        for process, now in done.items():
            before = self._begun.setdefault(process, now)
            cpu_s, size = cpu_s + now[0] - before[0], size + now[1] - before[1]
        if cpu_s > max(_MOVED_CPU_S, _MOVED_SHARE * (now_s - self.moved_at_s)) or size > _MOVED_BYTES:
            self.moved(now_s)

    def stopped(self, processes: Iterable[psutil.Process], now_s: float) -> list[psutil.Process]:
        """Return those that have been stopped for so long that nobody will continue them."""
        now = {process.pid: process for process in processes if is_stopped(process)}
        self._stopped_since = {pid: self._stopped_since.get(pid, now_s) for pid in now}
        return [now[pid] for pid, since_s in self._stopped_since.items() if now_s - since_s >= STILL_S]


def name_of(process: psutil.Process) -> str:
    """Return a process's name; "" once it is gone."""
    try:
        return str(process.name())
    except psutil.Error:
        return ""


def done_by(processes: Iterable[psutil.Process]) -> dict[Hashable, Done]:
    """Return what each process has done since it began; those that are gone, or that nobody may ask, are left out."""
    done: dict[Hashable, Done] = {}
    for process in processes:
        try:
            times, size = process.cpu_times(), 0
            if hasattr(process, "io_counters"):  # not on every system
                counters = process.io_counters()
                size = counters.read_chars + counters.write_chars
        except (psutil.Error, OSError):
            continue
        done[process.pid] = (times.user + times.system, float(size))
    return done


def is_stopped(process: psutil.Process) -> bool:
    """Tell whether a process is stopped by a signal or a debugger."""
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return False


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that has ended and waits to be collected does not."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_all(processes: Iterable[psutil.Process]) -> None:
    """Kill processes, stopped ones too, and wait until they are gone."""
    ending = list(processes)
    for process in ending:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(ending, timeout=10)


def has_task(process: psutil.Process) -> bool:
    """Tell whether a process is a Ray worker with a task: Ray calls it by the task."""
    name = name_of(process)
    return name.startswith("ray::") and not name.startswith(_WITHOUT_TASK)


def tend_machine() -> dict[Hashable, Done]:
    """Look after the workers beside this one, which runs as a Ray task: kill those that are stopped.

    They are the children of one raylet. Workers of another cluster on this machine are somebody else's business.

    Returns:
        What each worker that has a task has done.
    """
    raylet = psutil.Process().parent()
    found = [process for process in (raylet.children() if raylet else ()) if has_task(process)]
    if stopped := list(filter(is_stopped, found)):
        time.sleep(STILL_S)
        end_all(filter(is_stopped, stopped))
    return done_by(found)
