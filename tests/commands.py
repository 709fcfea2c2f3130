"""The command line, run as a user runs it: real processes, each of which dies with the test."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, Self

import psutil

LIMIT_S = 120.0


class Process:
    """A running command whose output is read as it comes."""

    def __init__(self, *command: object) -> None:
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        self._command = [str(word) for word in command]
        self._process = subprocess.Popen(
            [*guard, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            self._follow(self._process.stdout, self.lines),
            self._follow(self._process.stderr, self.errors),
        ]

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, is_it: Callable[[str], bool]) -> str:
        """Wait until a line on standard output is the one, and return it."""
        wait_until(lambda: any(map(is_it, list(self.lines))) or self._has_ended(), f"a line of {self._command}")
        found = [line for line in self.lines if is_it(line)]
        assert found, f"{self} ended without the line"
        return found[0]

    def send(self, signal_number: int) -> None:
        self._process.send_signal(signal_number)

    def wait(self) -> int:
        """Return the exit status; negative for the signal that killed it."""
        status = self._process.wait(LIMIT_S)
        for reader in self._readers:
            reader.join(LIMIT_S)
        return status

    def succeed(self) -> Self:
        """Wait for the end, and insist that it is a good one."""
        assert self.wait() == 0, str(self)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.wait()

    def __str__(self) -> str:
        return "\n".join([" ".join(self._command), *self.lines, *self.errors])

    def _has_ended(self) -> bool:
        return self._process.poll() is not None and not any(reader.is_alive() for reader in self._readers)

    @staticmethod
    def _follow(stream: IO[str], lines: list[str]) -> threading.Thread:
        def read() -> None:
            with stream:
                lines.extend(line.rstrip("\n") for line in stream)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread


def coldfuse(*arguments: object) -> Process:
    """Start `coldfuse ARGUMENTS`."""
    return Process(sys.executable, "-m", "coldfuse", *arguments)


def run_coldfuse(*arguments: object) -> Process:
    """Run `coldfuse ARGUMENTS` to its end, whatever that is; `wait` tells."""
    with coldfuse(*arguments) as process:
        process.wait()
    return process


def but_unsigned(lines: Sequence[str]) -> list[str]:
    """Return what was said besides that the federation has no root."""
    return [line for line in lines if "without a root" not in line and "has no root" not in line]


def name_if_alive(process: psutil.Process) -> str:
    """Return a process's name; nothing once it has ended, which it may do at any moment."""
    try:
        return process.name() if process.is_running() and process.status() != psutil.STATUS_ZOMBIE else ""
    except psutil.NoSuchProcess:
        return ""


def is_alive(process: psutil.Process) -> bool:
    return name_if_alive(process) != ""


def wait_until(is_so: Callable[[], object], what: str, *, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end, f"waited {limit_s:.0f} s in vain for {what}"
        time.sleep(0.005)
