"""Starting servers that never outlive the tests, and waiting for them by what they do, not by the clock."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

START_LIMIT_S = 60.0
_POLL_S = 0.02


def start(*command: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon that the kernel kills when this thread ends, even if the tests are killed.

    The signal follows the thread that starts the daemon, so start daemons from the main thread.
    """
    guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
    with log.open("ab") as out:
        return subprocess.Popen([*guard, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill and reap."""
    process.kill()
    process.wait()


def wait_until(is_ready: Callable[[], bool], what: str, *processes: subprocess.Popen[bytes]) -> None:
    """Wait for a condition; fail when it takes too long or a process that it depends on has ended."""
    end = time.monotonic() + START_LIMIT_S
    while not is_ready():
        ended = [process.args for process in processes if process.poll() is not None]
        if ended:
            raise RuntimeError(f"{what} did not come up: {ended} ended")
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not come up in {START_LIMIT_S:.0f} s")
        time.sleep(_POLL_S)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, chosen by the system, for servers that cannot be told to choose one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def is_listening(port: int) -> bool:
    """Whether somebody takes connections at a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True
