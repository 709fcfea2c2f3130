"""Processes: ending cleanly on signals, and running several as one tree."""

from __future__ import annotations

import ctypes
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
LISTENING = "listening on "
"""Beginning of the line with which a gateway says its address."""

EX_CONFIG, EX_TEMPFAIL = 78, 75
"""Exit statuses (those of sysexits.h): the settings are wrong, so that another start would end alike; the process gave
itself up, and shall be started again."""

HOPELESS = (2, EX_CONFIG)
"""Exit statuses of wrong usage and of wrong settings, after which nothing is started again."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""Seconds before a second start in a row, and before any later one."""

STEADY_S = 60.0
"""Seconds after which a process counts as having run well: the next start follows at once."""


def stop_on_signals(stop: threading.Event | None = None) -> threading.Event:
    """Return an event that SIGINT or SIGTERM sets; a second signal ends the process at once.

    Call it again, with the event, after a library has taken the signals for itself.
    """
    stop = stop or threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(128 + number)
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop


def keep_memory_private() -> None:
    """Leave no memory of this process on a disk, and show it to no other one of this user: it holds private keys.

    No core file is written when it crashes, whichever program the system has for that; children inherit the limit of
    zero bytes, and a debugger needs root.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # a program that the system pipes cores into gets them whatever the limit says
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def start(arguments: Sequence[str], **options: object) -> subprocess.Popen[str]:
    """Start `coldfuse ARGUMENTS` as a child that does not outlive this process, not even its `kill -9`."""
    command = [sys.executable, "-P", "-m", "coldfuse", *arguments]
    return subprocess.Popen(command, text=True, preexec_fn=_die_with_parent, **options)  # type: ignore[call-overload,no-any-return]  # noqa: PLW1509


class Restarts:
    """When to start a process again that has ended: at once, then ever later; and when never again."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Know of no start yet.

        Args:
            now_s: A monotonic clock, in seconds.
        """
        self._now_s = now_s
        self._started_at_s = 0.0
        self._pause_s = 0.0
        self.due_at_s = 0.0
        """When to start again, by the clock."""

    def started(self) -> None:
        """Say that the process was started."""
        self._started_at_s = self._now_s()

    def ended(self) -> float:
        """Say that it has ended; return for how many seconds it is left alone."""
        if self._now_s() - self._started_at_s >= STEADY_S:
            self._pause_s = 0.0
        pause_s, self._pause_s = self._pause_s, min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self.due_at_s = self._now_s() + pause_s
        return pause_s

    def is_due(self) -> bool:
        """Tell whether the pause is over."""
        return self._now_s() >= self.due_at_s


def run_children(gateway: Sequence[str], others: Mapping[str, Sequence[str]]) -> None:
    """Run a gateway, and other coldfuse commands once it listens, until a signal.

    One that ends is started again: at once, and then after pauses that grow; the gateway then listens where it did
    before. Nothing else ends them but what another start would not change: wrong usage or settings, which a child says
    by its exit status, or a gateway that could not listen the first time, which somebody is waiting to see.

    Args:
        gateway: The gateway's arguments, of which the last is where it listens.
        others: Names and arguments of the commands that follow it.

    Raises:
        SystemExit: A child has ended for good, and has said why.
    """
    stop, family = stop_on_signals(), _Family()
    try:
        family.add("gateway", gateway)
        while not (stop.wait(0.05) or family.listening.is_set()):
            family.revive(ending=(1, *HOPELESS))
        for name, arguments in others.items():
            if not stop.is_set():
                family.add(name, arguments)
        while not stop.wait(0.2):
            family.revive()
    finally:
        end(list(family.running.values()))
        family.join()


def run_again(name: str, arguments: Sequence[str]) -> None:
    """Run a coldfuse command until it ends well or a signal comes; started again whenever it ends otherwise.

    Args:
        name: What it is called in what is said of it.
        arguments: The command's arguments.

    Raises:
        SystemExit: It has ended for good, with this status; it has said why.
    """
    stop, family = stop_on_signals(), _Family()
    try:
        family.add(name, arguments)
        while not stop.wait(0.1):
            family.revive(ending=(0, *HOPELESS))
    finally:
        end(list(family.running.values()), grace_s=30.0)


class _Family:
    """Children that are started again; of a gateway's, the first line says where it listens."""

    def __init__(self) -> None:
        self._arguments: dict[str, list[str]] = {}
        self._restarts: dict[str, Restarts] = {}
        self._reader: threading.Thread | None = None
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.listening = threading.Event()

    def add(self, name: str, arguments: Sequence[str]) -> None:
        self._arguments[name], self._restarts[name] = list(arguments), Restarts()
        self._start(name)

    def revive(self, *, ending: Sequence[int] = HOPELESS) -> None:
        """Start those again that have died and whose pause is over; end with one whose status is an ending one."""
        for name, child in list(self.running.items()):
            if child.poll() is None:
                continue
            if child.returncode in ending:
                raise SystemExit(child.returncode)  # it has said why, in one line
            del self.running[name]
            pause_s = self._restarts[name].ended()
            when = f" in {pause_s:.0f} s" if pause_s >= 1 else ""
            sys.stderr.write(f"coldfuse: the {name} ended with status {child.returncode}; starting it again{when}\n")
            sys.stderr.flush()
        for name in self._arguments.keys() - self.running.keys():
            if self._restarts[name].is_due():
                self._start(name)

    def join(self) -> None:
        """Wait until all that the gateway has printed is passed on."""
        if self._reader is not None:
            self._reader.join()

    def _start(self, name: str) -> None:
        is_read = name == "gateway"
        self.running[name] = start(self._arguments[name], **({"stdout": subprocess.PIPE} if is_read else {}))
        self._restarts[name].started()
        if is_read:
            self.join()
            self._reader = threading.Thread(target=self._follow, args=(self.running[name],), daemon=True)
            self._reader.start()

    def _follow(self, child: subprocess.Popen[str]) -> None:
        """Pass on what the gateway prints, and keep the address that it has found."""
        if child.stdout is None:
            return
        with child.stdout as lines:
            for line in lines:
                sys.stdout.write(line)
                sys.stdout.flush()
                if line.startswith(LISTENING):
                    self._arguments["gateway"][-1] = line.removeprefix(LISTENING).strip()
                    self.listening.set()


def end(children: Sequence[subprocess.Popen[str]], *, grace_s: float = 15.0) -> None:
    """Ask children to end, and kill those that do not."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + grace_s
    for child in children:
        try:
            child.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also one that is stopped, or in a long fusion
