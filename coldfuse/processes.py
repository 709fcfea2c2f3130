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
_QUICK_S = 5.0
"""A child that ends sooner than this after its start will not get better by starting it again."""


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
    command = [sys.executable, "-m", "coldfuse", *arguments]
    return subprocess.Popen(command, text=True, preexec_fn=_die_with_parent, **options)  # type: ignore[call-overload,no-any-return]  # noqa: PLW1509


def run_children(children: Mapping[str, Sequence[str]]) -> None:
    """Run coldfuse commands until a signal; one that dies is started again, unless it dies at once."""
    stop = stop_on_signals()
    running = {name: start(arguments) for name, arguments in children.items()}
    started = dict.fromkeys(children, time.monotonic())
    try:
        while not stop.wait(0.2):
            for name, child in running.items():
                if child.poll() is None:
                    continue
                if time.monotonic() - started[name] < _QUICK_S:
                    if child.returncode == 1:
                        raise SystemExit(1)  # it has said why, in one line
                    raise ColdfuseError(f"the {name} ended with status {child.returncode}")
                sys.stderr.write(f"coldfuse: the {name} ended with status {child.returncode}; starting it again\n")
                running[name], started[name] = start(children[name]), time.monotonic()
    finally:
        end(list(running.values()))


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
