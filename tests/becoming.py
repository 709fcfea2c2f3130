"""A process that has imported what commands import, and becomes one whenever it is asked to.

    python becoming.py SOCKET PATHS

Most of a small command's time goes into imports. What becomes a command here is a process as any other: it has its own
number, output and memory, and can be stopped and killed. It differs in that it has more modules than it would have
imported, and the seed of hashes that its brothers have. What needs neither starts a program afresh.

PATHS is where to import from, as JSON. A request comes with three files: the standard output and error, and one for
answers: the process's number, and, once it has ended, its exit status. What is to be done lies in a fourth one.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_NUM_FILES = 4
TRAINING = (
    "torch", "transformers", "sklearn.metrics", "coldfuse.training.fine_tuning", "coldfuse.training.loading",
    "transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert", "transformers.trainer",
)  # fmt: skip
"""What a command that trains gets to in the end."""
_STARTS_THREADS = ("ray",)


@dataclass(frozen=True)
class Request:
    """What to become."""

    arguments: list[str]
    """As Python takes them: `-m MODULE …` or `FILE …`."""
    folder: str
    environment: dict[str, str]

    def prepare(self) -> None:
        """Import what it is going to import: for this one, and for all that follow."""
        for name in self._imported():
            with contextlib.suppress(ImportError):  # it says so itself
                if name.partition(".")[0] not in _STARTS_THREADS:
                    importlib.import_module(name)

    def _imported(self) -> Iterator[str]:
        from coldfuse.cli.main import COMMANDS
        from coldfuse.config import prepare_training

        if self.arguments[0] != "-m":
            lines = ast.parse(Path(self.arguments[0]).read_bytes()).body
            yield from (line.module for line in lines if isinstance(line, ast.ImportFrom) and line.module)
        elif words := [word for word in self.arguments[2:] if not word.startswith("-")]:
            command = COMMANDS.get(words[0]) or COMMANDS.get(" ".join(words[:2]))
            if command and command.prepare is prepare_training:
                prepare_training()
                yield from TRAINING
            if command:
                yield from (*command.at_once, command.runs.partition(":")[0])

    def run(self) -> None:
        """Be it, in this process."""
        kind, *rest = self.arguments
        if kind == "-m":
            sys.argv, sys.path[:1] = rest, [self.folder]
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[:1] = [kind, *rest], [os.path.dirname(kind)]
            runpy.run_path(kind, run_name="__main__")


class Nursery:
    """Becomes what is asked for, and says how each has ended."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._environment = dict(os.environ)
        self._selector = selectors.DefaultSelector()
        self._selector.register(requests, selectors.EVENT_READ)

    def serve(self) -> Request | None:
        """Return a request in the process that is to become it, and None in this one when nobody asks any more."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is not self._requests:
                    self._bury(key)
                    continue
                message, files, _, _ = socket.recv_fds(self._requests, 1, _NUM_FILES)
                if not message:
                    return None
                if request := self._bear(files):
                    return request

    def _bear(self, files: list[int]) -> Request | None:
        asked, out, error, answers = files
        with open(asked, "rb") as file:
            request = Request(**json.load(file))
        request.prepare()
        gc.freeze()
        parent = os.getpid()
        if not (pid := os.fork()):
            os.close(answers)
            self._leave(parent)
            self._dress(request, out, error)
            return request
        os.close(out)
        os.close(error)
        os.write(answers, f"{pid}\n".encode())
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answers))
        return None

    def _bury(self, key: selectors.SelectorKey) -> None:
        pid, answers = key.data
        _, status = os.waitpid(pid, 0)
        try:
            os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())
        except BrokenPipeError:
            pass  # nobody wants to know
        self._selector.unregister(key.fileobj)
        os.close(answers)
        os.close(int(key.fd))

    def _leave(self, parent: int) -> None:
        """Be a process of its own, which dies with its parent and shares no file with its brothers."""
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                os.close(key.fd)
                os.close(key.data[1])
        self._selector.close()
        self._requests.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def _dress(self, request: Request, out: int, error: int) -> None:
        """Take the output, the folder and the environment that were asked for."""
        for given, number in ((out, 1), (error, 2)):
            os.dup2(given, number)
            os.close(given)
        os.chdir(request.folder)
        for name in self._environment.keys() - request.environment.keys():
            os.environ.pop(name, None)
        os.environ.update(request.environment)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed()


def main(number: str, paths: str) -> None:
    own = list(sys.path)
    sys.path[:] = json.loads(paths)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides
    request: Any = Nursery(socket.socket(fileno=int(number))).serve()
    sys.path[:] = own
    if request is not None:
        request.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
