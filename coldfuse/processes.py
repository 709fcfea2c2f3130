"""Processes: ending cleanly on signals, and running several as one tree."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType

from coldfuse.errors import ColdfuseError

_PR_SET_PDEATHSIG = 1
LISTENING = "listening on "
"""Beginning of the line with which a gateway says its address."""


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


def start(arguments: Sequence[str], **options: object) -> subprocess.Popen[str]:
    """Start `coldfuse ARGUMENTS` as a child that does not outlive this process, not even its `kill -9`."""
    command = [sys.executable, "-P", "-m", "coldfuse", *arguments]
    return subprocess.Popen(command, text=True, preexec_fn=_die_with_parent, **options)  # type: ignore[call-overload,no-any-return]  # noqa: PLW1509


def run_children(gateway: Sequence[str], others: Mapping[str, Sequence[str]], *, hopeless_s: float = 5.0) -> None:
    """Run a gateway, and other coldfuse commands once it listens, until a signal.

    One that dies is started again, unless it dies at once; the gateway then listens where it did before.

    Args:
        gateway: The gateway's arguments, of which the last is where it listens.
        others: Names and arguments of the commands that follow it.
        hopeless_s: Seconds after its start in which a child that ends will not get better by starting it again.

    Raises:
        ColdfuseError: A child ended too soon, and has not said why.
        SystemExit: It has.
    """
    stop, family = stop_on_signals(), _Family(gateway, hopeless_s=hopeless_s)
    try:
        family.start("gateway")
        while not (stop.wait(0.05) or family.listening.is_set()):
            family.revive()
        for name, arguments in others.items():
            if not stop.is_set():
                family.add(name, arguments)
        while not stop.wait(0.2):
            family.revive()
    finally:
        end(list(family.running.values()))
        family.join()


class _Family:
    """A gateway, whose first line says where it listens, and those who come after it."""

    def __init__(self, gateway: Sequence[str], *, hopeless_s: float) -> None:
        self._hopeless_s = hopeless_s
        self._arguments = {"gateway": list(gateway)}
        self._started: dict[str, float] = {}
        self._reader: threading.Thread | None = None
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.listening = threading.Event()

    def add(self, name: str, arguments: Sequence[str]) -> None:
        self._arguments[name] = list(arguments)
        self.start(name)

    def start(self, name: str) -> None:
        is_read = name == "gateway"
        self.running[name] = start(self._arguments[name], **({"stdout": subprocess.PIPE} if is_read else {}))
        self._started[name] = time.monotonic()
        if is_read:
            self.join()
            self._reader = threading.Thread(target=self._follow, args=(self.running[name],), daemon=True)
            self._reader.start()

    def revive(self) -> None:
        """Start those again that have died; raise if one would only die again."""
        for name, child in list(self.running.items()):
            if child.poll() is None:
                continue
            if time.monotonic() - self._started[name] < self._hopeless_s:
                if child.returncode == 1:
                    raise SystemExit(1)  # it has said why, in one line
                raise ColdfuseError(f"the {name} ended with status {child.returncode}")
            sys.stderr.write(f"coldfuse: the {name} ended with status {child.returncode}; starting it again\n")
            self.start(name)

    def join(self) -> None:
        """Wait until all that the gateway has printed is passed on."""
        if self._reader is not None:
            self._reader.join()

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
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
