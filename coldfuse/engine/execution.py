"""Run many independent tasks: on threads of this process, or as Ray tasks on any machine.

Ray is a shell: a task is a plain function of plain data, and what it yields is small (digests and sizes).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeVar

import psutil

if TYPE_CHECKING:
    import ray

from coldfuse.engine.ray_cluster import LOOK_S, Cluster, JoinedCluster, LocalCluster
from coldfuse.engine.ray_starting import first_line
from coldfuse.engine.work import Watch, done_by
from coldfuse.errors import ColdfuseError, UserInputError, WorkerLostError

_TASKS_PER_THREAD = 2
"""Number of tasks a thread that are submitted at a time, so that none waits for the next."""

_TASKS_PER_CPU = 4
"""Number of tasks a CPU that are submitted to Ray at a time: more, as the way to a worker is longer."""

_GPU_SHARES = 10_000
"""Number of parts of a GPU that Ray counts in."""

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")


def nobody() -> None:
    """Tell nobody that the work goes on."""


class Executor(Protocol):
    """Runs tasks; each result is yielded with the index of its item, as it is ready."""

    @property
    def task_bytes(self) -> int:
        """Memory that one task may take, beside what its process takes anyway."""

    @property
    def num_workers(self) -> int:
        """Number of tasks that run at a time on one machine."""

    def run(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Call `task(shared, item)` for every item, in any order and any process.

        Args:
            task: A plain function; on Ray it and its arguments are pickled.
            shared: What all calls share; put into Ray's object store once, and read from there by each task.
            items: What is done one by one.

        Yields:
            The index of an item and what the task returned for it, as it is ready.

        Raises:
            ColdfuseError: What a task raised; then no further item is begun.
            WorkerLostError: A Ray worker was lost, again and again.
        """


class WatchedExecutor(Executor, Protocol):
    """An executor that tells whether its tasks move, for as long as nobody hears of a result."""

    def run(
        self, task: Callable[[S, T], R], shared: S, items: Sequence[T], *, alive: Callable[[], None] = nobody
    ) -> Iterator[tuple[int, R]]:
        """Call `task(shared, item)` for every item; call `alive` every second in which the tasks work."""


class ThreadExecutor:
    """Threads: numpy, hashing and reading all release the interpreter's lock."""

    def __init__(self, num_threads: int, *, memory_bytes: int | None = None) -> None:
        """Start no thread yet.

        Args:
            num_threads: Number of threads.
            memory_bytes: Memory that they share; None: an eighth of this machine's.
        """
        self.num_workers = num_threads
        self.task_bytes = (memory_bytes or default_memory_bytes()) // num_threads

    def run(
        self, task: Callable[[S, T], R], shared: S, items: Sequence[T], *, alive: Callable[[], None] = nobody
    ) -> Iterator[tuple[int, R]]:
        """Call `task(shared, item)` for every item; `alive` is called while this process computes or reads."""
        todo = iter(enumerate(items))
        under_way: dict[Future[R], int] = {}
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="fuse") as pool:
            try:
                while True:
                    # A bounded number at a time: a result is held from when it is ready to when it is taken.
                    for index, item in islice(todo, _TASKS_PER_THREAD * self.num_workers - len(under_way)):
                        under_way[pool.submit(task, shared, item)] = index
                    if not under_way:
                        return
                    ready = _first(under_way, alive)
                    yield under_way.pop(ready), ready.result()
                    del ready
            finally:
                pool.shutdown(cancel_futures=True)


def _first(under_way: Mapping[Future[R], int], alive: Callable[[], None]) -> Future[R]:
    """Wait for the first to end."""
    watch, itself = Watch(time.monotonic()), psutil.Process()
    while not (done := wait(under_way, timeout=LOOK_S, return_when=FIRST_COMPLETED).done):
        before_s = watch.moved_at_s
        watch.look(done_by([itself]), time.monotonic())
        if watch.moved_at_s != before_s:
            alive()
    return next(iter(done))


class RayExecutor:
    """Ray tasks of one CPU each. A task whose worker or node died is run again by Ray, with the same result."""

    def __init__(
        self,
        *,
        memory_bytes: int | None = None,
        num_workers: int | None = None,
        device: str = "cpu",
        cluster: Cluster | None = None,
    ) -> None:
        """Use the Ray cluster that this process has joined.

        Args:
            memory_bytes: Memory that all workers of one machine share; None: an eighth of this one's.
            num_workers: Number of workers of one machine; None: one a CPU of this one.
            device: Name of the device on which whole matrices are worked on.
            cluster: The cluster to be watched, and started again once it is lost; None: nobody watches.
        """
        self._device = device
        self._cluster = cluster
        self.num_workers = num_workers or psutil.cpu_count() or 1
        self.task_bytes = (memory_bytes or default_memory_bytes()) // self.num_workers

    def run(
        self, task: Callable[[S, T], R], shared: S, items: Sequence[T], *, alive: Callable[[], None] = nobody
    ) -> Iterator[tuple[int, R]]:
        """Call `task(shared, item)` for every item; `alive` is called while the cluster works."""
        try:
            if self._cluster is not None:
                self._cluster.start()
            with _translated(), self._cluster.watched() if self._cluster is not None else nullcontext():
                yield from self._run(task, shared, items, alive)
        except WorkerLostError:
            if self._cluster is not None:
                self._cluster.end()
            raise

    def _run(
        self, task: Callable[[S, T], R], shared: S, items: Sequence[T], alive: Callable[[], None]
    ) -> Iterator[tuple[int, R]]:
        import ray

        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        remote = ray.remote(num_cpus=1, num_gpus=gpu_share(self._device, resources), max_retries=5)(task)
        shared_ref = ray.put(shared)
        todo = iter(enumerate(items))
        under_way: dict[ray.ObjectRef[R], int] = {}
        try:
            while True:
                # A bounded number at a time: the tasks of a large fusion are themselves large.
                cpus = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
                window = max(_TASKS_PER_CPU * int(cpus), 1)
                for index, item in islice(todo, max(window - len(under_way), 0)):  # fewer CPUs once a node is lost
                    under_way[remote.remote(shared_ref, item)] = index
                if not under_way:
                    return
                ready = self._wait(list(under_way), alive)
                yield under_way.pop(ready), _get(ready)
        except WorkerLostError:
            under_way.clear()  # there is nobody who could be told
            raise
        finally:
            for reference in under_way:
                ray.cancel(reference, force=False)

    def _wait(self, references: list[ray.ObjectRef[R]], alive: Callable[[], None]) -> ray.ObjectRef[R]:
        """Wait for one of them, with an eye on the cluster: Ray would wait for ever for what stands still."""
        import ray

        while True:
            ready, _ = ray.wait(references, num_returns=1, timeout=LOOK_S)
            if self._cluster is not None:
                self._cluster.check()
            alive()
            if ready:
                if self._cluster is not None:
                    self._cluster.moved()
                return ready[0]


def gpu_share(device: str, resources: Mapping[str, float]) -> float:
    """Return what part of a GPU a task asks Ray for.

    Every task takes a CPU, to read files. So that no CPU idles, all share the GPUs evenly: 4 GPUs beside 32 CPUs have 8
    tasks each. Ray shows a task only the GPU that it may use.

    Args:
        device: Name of the device; 0 is asked for unless it is cuda.
        resources: The cluster's resources, as Ray counts them.

    Raises:
        UserInputError: The cluster has no GPU, or the device names one of several.
    """
    if not device.startswith("cuda"):
        return 0
    if device != "cuda":
        raise UserInputError(f"--device {device}: Ray chooses among the GPUs; give --device cuda")
    num_gpus = resources.get("GPU", 0)
    if not num_gpus:
        raise UserInputError("--device cuda: this Ray cluster has no GPU; see `ray status`, or leave --device out")
    share = num_gpus / max(resources.get("CPU", 1), 1)
    return min(math.floor(share * _GPU_SHARES) / _GPU_SHARES, 1)


def default_memory_bytes() -> int:
    """Return the memory that all workers of this machine may take if nobody says how much: an eighth of it."""
    return int(psutil.virtual_memory().total) // 8


def _get(reference: ray.ObjectRef[R]) -> R:
    """Return a task's result; an error that coldfuse raised in it comes back as itself.

    What the task's machine did to it (its memory, its disk, its network) counts as a lost worker; a bug stays one.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ColdfuseError):
            raise error.cause from None
        if isinstance(error.cause, OSError | MemoryError | ray.exceptions.RayError):
            kind = type(error.cause).__name__
            raise WorkerLostError(f"a Ray worker could not do its task: {kind}: {first_line(error.cause)}") from error
        raise


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what Ray says of a cluster that is gone into `WorkerLostError`; a task's own error is none of that."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except (ray.exceptions.RayError, ConnectionError, TimeoutError) as error:
        raise WorkerLostError(f"a Ray worker was lost: {first_line(error)}") from error


@contextmanager
def ray_executor(
    address: str | None,
    *,
    num_cpus: int | None = None,
    memory_bytes: int | None = None,
    device: str = "cpu",
    instead: str = "",
) -> Iterator[RayExecutor]:
    """Join a Ray cluster, or start one on this machine that ends with the block.

    It is watched while tasks run, and started or joined again by the next `run` after it was lost.

    Args:
        address: HOST:PORT, ray://HOST:PORT or auto; None: start a cluster here.
        num_cpus: Number of workers of one machine; None: one a CPU.
        memory_bytes: Memory of all workers of one machine; None: an eighth of this one's.
        device: Name of the device on which whole matrices are worked on.
        instead: What the caller's user can do where Ray is too slow to start here, as an error ends: "do without Ray".

    Raises:
        UserInputError: The address is none.
        TransportError: There is no such cluster, or this process cannot join it.
        WorkerLostError: Ray does not start here.
    """
    cluster: Cluster = LocalCluster(num_cpus, instead=instead) if address is None else JoinedCluster(address)
    cluster.start()
    try:
        yield RayExecutor(memory_bytes=memory_bytes, num_workers=num_cpus, device=device, cluster=cluster)
    finally:
        cluster.end()
