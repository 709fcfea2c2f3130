"""Commands as processes that one process becomes, which has imported what they need (see `becoming`)."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

FREE = ("AWS_", "COLDFUSE_", "PYTEST_", "GRPC_", "RAY_", "TOKENIZERS_")
"""Beginnings of the variables that nothing reads while it is imported: in these a command may differ from the first."""


class Born:
    """A running process, as `subprocess.Popen` shows one."""

    def __init__(self, answers: IO[str], stdout: IO[str], stderr: IO[str]) -> None:
        self._answers, self.stdout, self.stderr = answers, stdout, stderr
        said = answers.readline()
        assert said, "the process that commands come from has died"
        self.pid = int(said)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status, or None as long as there is none."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; negative for the signal that killed it."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Where commands come from; one for each process of tests, which it dies with."""

    def __init__(self) -> None:
        self._environment = _bound(os.environ)
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Path(__file__).with_name("becoming.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, program, str(theirs.fileno()), json.dumps(sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,  # as a command's: it goes to no terminal and no file
                pass_fds=[theirs.fileno()],
            )

    def close(self) -> None:
        """Bear nobody any more; who still runs dies."""
        self._requests.close()
        with self._process:
            pass

    def may_bear(self) -> bool:
        """Tell whether what is imported there is what a command would import now."""
        return _bound(os.environ) == self._environment and self._process.poll() is None

    def bear(self, arguments: Sequence[str]) -> Born:
        """Start Python with arguments: `-m MODULE …` or `FILE …`."""
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        asked = os.memfd_create("request")
        os.write(asked, json.dumps(request).encode())
        os.lseek(asked, 0, os.SEEK_SET)
        (out, theirs_out), (error, theirs_error), (answers, theirs_answers) = os.pipe(), os.pipe(), os.pipe()
        theirs = [asked, theirs_out, theirs_error, theirs_answers]
        socket.send_fds(self._requests, [b"?"], theirs)
        for number in theirs:
            os.close(number)
        return Born(*(os.fdopen(number, encoding="utf-8") for number in (answers, out, error)))


def _bound(environment: os._Environ[str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(FREE)}


_nurseries: list[Nursery] = []


def start(arguments: Sequence[str]) -> Born | None:
    """Start Python with arguments; None where it has to be started afresh."""
    if sys.platform != "linux":
        return None
    if not _nurseries:
        _nurseries.append(Nursery())
        atexit.register(_nurseries[0].close)
    return _nurseries[0].bear(arguments) if _nurseries[0].may_bear() else None
