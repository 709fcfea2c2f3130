"""A Ray cluster that is watched: started here or joined, and started or joined again once it is lost.

Ray itself waits long before it gives up: a killed GCS for a minute, after which it ends the whole process; a stopped
raylet or worker for ever. So a thread looks at the processes of the cluster every second while tasks run. A stopped
worker is killed, and Ray runs its task again. Whatever else is gone or stands still ends the cluster: its processes are
killed here, since `ray.shutdown` waits for some of them. Whoever is inside a call to Ray then, and would wait for ever,
is ended by Ray (`config.prepare_ray` says when), and started again by its supervisor.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import psutil

from coldfuse.engine.ray_frontier import alone, require_frontier
from coldfuse.engine.ray_probes import Probes
from coldfuse.engine.ray_starting import first_line, start_patiently
from coldfuse.engine.work import Watch, done_by, end_all, has_task, is_alive, is_stopped, name_of
from coldfuse.errors import TransportError, UserInputError, WorkerLostError

log = logging.getLogger(__name__)

STALL_S = 300.0
"""Seconds in which no task ends and no worker computes or reads, after which a cluster is given up."""

LOOK_S = 1.0
"""Seconds between two looks at a cluster that works."""

_NEEDED = ("gcs_server", "raylet")
"""Names of the processes without which a cluster does nothing; a raylet ends by itself when its agents do."""

_QUIET_S = 10.0
"""Seconds without a result after which the machines of a cluster that was joined are asked what they do."""


class Cluster(ABC):
    """Where Ray's tasks run, and who watches it while they do."""

    def __init__(self) -> None:
        self._is_up = False
        self._lost: WorkerLostError | None = None
        self._watch = Watch(time.monotonic())

    def start(self) -> None:
        """Start or join the cluster; nothing happens while it is up and well.

        Raises:
            UserInputError: The address is none.
            TransportError: There is no such cluster, or this process cannot join it.
            WorkerLostError: Ray did not start here.
        """
        if self._is_up and not self._is_well():
            log.warning("Ray was lost while nothing ran: it is started again")
            self.end()
        if not self._is_up:
            _hush()
            self._start()
            self._is_up, self._lost = True, None

    def end(self) -> None:
        """Leave no process behind, and forget the cluster; harmless when done twice."""
        if self._is_up:
            self._is_up = False
            self._end()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the cluster for the block."""
        self._watch.moved(time.monotonic())
        done = threading.Event()
        thread = threading.Thread(target=self._keep_looking, args=(done,), name="ray-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def moved(self) -> None:
        """Say that a task has ended."""
        self._watch.moved(time.monotonic())

    def check(self) -> None:
        """Raise `WorkerLostError` if the cluster is lost; call `end`, and then `start`."""
        if self._lost is not None:
            raise self._lost

    def _keep_looking(self, done: threading.Event) -> None:
        while not done.wait(LOOK_S) and self._lost is None:
            now_s = time.monotonic()
            try:
                self._look(now_s)
                if now_s - self._watch.moved_at_s > STALL_S:
                    raise WorkerLostError(f"no task of Ray has moved for {STALL_S:.0f} s")
            except WorkerLostError as error:
                self._lost = error
                self._abandon()

    @abstractmethod
    def _start(self) -> None:
        """Start or join it."""

    @abstractmethod
    def _is_well(self) -> bool:
        """Tell at once whether it can be used, as far as this process can see."""

    @abstractmethod
    def _look(self, now_s: float) -> None:
        """See to it; raise `WorkerLostError` if it is lost."""

    @abstractmethod
    def _abandon(self) -> None:
        """Do what makes everybody notice that it is lost."""

    @abstractmethod
    def _end(self) -> None:
        """End or leave it."""


class LocalCluster(Cluster):
    """A cluster of this machine that ends with this process."""

    def __init__(self, num_cpus: int | None = None, *, instead: str = "") -> None:
        """Start nothing yet.

        Args:
            num_cpus: Number of workers; None: one a CPU.
            instead: What the command that runs can do where Ray is too slow to start, for the error.
        """
        super().__init__()
        self._num_cpus, self._instead = num_cpus, instead
        self._held = ExitStack()  # what makes a cluster that is up this process's alone
        self._family: list[psutil.Process] = []  # this process's children that are Ray's
        self._needed: list[psutil.Process] = []

    def _start(self) -> None:
        start_patiently(self._start_once, instead=self._instead)

    def _start_once(self) -> None:
        """Start Ray. coldfuse puts no tensors into its object store, so that is kept small."""
        import ray

        before, is_others = set(_children(psutil.Process())), ray.is_initialized()
        self._held.enter_context(alone())
        try:
            ray.init(
                address="local", num_cpus=self._num_cpus, include_dashboard=False, object_store_memory=128 << 20,
                logging_level=logging.ERROR, log_to_driver=False,
            )  # fmt: skip
        except BaseException:  # whatever it is: half a Ray would run on beside the next one
            end_all(_with_descendants([child for child in _children(psutil.Process()) if child not in before]))
            if not is_others:  # a Ray that the program itself has started runs on
                ray.shutdown()  # else Ray takes the next start for a second one
            self._held.close()
            raise
        self._family = [child for child in _children(psutil.Process()) if child not in before]
        self._needed = [child for child in self._family if name_of(child) in _NEEDED]

    def _is_well(self) -> bool:
        return all(is_alive(process) and not is_stopped(process) for process in self._needed)

    def _look(self, now_s: float) -> None:
        for process in self._needed:
            if not is_alive(process):
                raise WorkerLostError(f"a process of Ray has ended ({process.pid}), and with it all that ran there")
        workers = [worker for process in self._needed for worker in _children(process)]
        for process in self._watch.stopped([*self._needed, *workers], now_s):
            if process in self._needed:
                raise WorkerLostError(f"Ray's {name_of(process)} is stopped ({process.pid})")
            log.warning("%s is stopped (%d): it is killed, and its task runs again", name_of(process), process.pid)
            end_all([process])
        self._watch.look(done_by(filter(has_task, workers)), now_s)

    def _abandon(self) -> None:
        end_all(_with_descendants(self._family))

    def _end(self) -> None:
        import ray

        family = _with_descendants(self._family)
        if not self._is_well():
            end_all(family)
        ray.shutdown()
        self._held.close()
        end_all(process for process in family if is_alive(process))


class JoinedCluster(Cluster):
    """A cluster that others run, and that this process leaves as it is."""

    def __init__(self, address: str) -> None:
        """Ask nobody yet.

        Args:
            address: HOST:PORT, ray://HOST:PORT or auto.
        """
        super().__init__()
        self._address = address
        self._probes = Probes()

    def _start(self) -> None:
        import ray

        require_reachable(self._address)
        require_frontier(self._address)
        try:
            ray.init(address=self._address, logging_level=logging.ERROR, log_to_driver=False)
        except (OSError, RuntimeError, ray.exceptions.RayError) as error:  # gone, or another version or token
            raise TransportError(f"cannot join the Ray cluster at {self._address}: {first_line(error)}") from error
        self._probes = Probes()

    def _is_well(self) -> bool:
        try:
            require_reachable(self._address)
        except TransportError:
            return False
        return True

    def _look(self, now_s: float) -> None:
        """Make sure that the head answers; where nothing ends for a while, ask the machines what they do."""
        if now_s - self._watch.moved_at_s < _QUIET_S or not self._probes.is_due(now_s):
            return
        try:
            require_reachable(self._address)
        except TransportError as error:
            raise WorkerLostError(str(error)) from error
        self._watch.look(self._probes.ask(now_s), now_s)

    def _abandon(self) -> None:
        """Nothing of it is this process's: Ray gives it up in its own time."""

    def _end(self) -> None:
        import ray

        ray.shutdown()


def require_reachable(address: str) -> None:
    """Refuse an address where nobody listens, at once: Ray itself would try for minutes.

    Raises:
        UserInputError: The address is none.
        TransportError: Nobody listens there.
    """
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto":
        return
    if not separator or not host or "/" in host or not port.isdigit():
        raise UserInputError(f"Ray address {address!r}: expected HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise TransportError(f"no Ray cluster at {address} ({error}); see `ray status` on its head node") from error


def _hush() -> None:
    """Keep Ray from printing what it thinks of lost workers: standard output is not its own, and no setting says so."""
    import ray._private.worker

    ray._private.worker._worker_logs_enabled = False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children())
    except psutil.Error:
        return []


def _with_descendants(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        found.append(process)
        try:
            found += process.children(recursive=True)
        except psutil.Error:
            continue
    return found
