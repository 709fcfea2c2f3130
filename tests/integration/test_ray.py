"""Ray is a shell: the same bytes, the same errors, whatever dies."""

from __future__ import annotations

import ipaddress
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from commands import wait_until
from encoded_deltas import factors, make_mask, schema_of, send, sparse
from folder_fusions import fuse
from ray_tasks import kill_worker_once, raise_bug, raise_error, stand_still_once, tell_process
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model, write_model

from coldfuse.config import prepare_ray
from coldfuse.engine.execution import Executor, RayExecutor, ThreadExecutor, ray_executor
from coldfuse.engine.fuse import fuse_part
from coldfuse.engine.work import has_task, is_stopped, tend_machine
from coldfuse.errors import CodecError, ContributionRejectedError, DigestMismatchError, FusionError

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
MODEL = make_model()


class OneByOne:
    """Ray with one task at a time: one worker."""

    task_bytes = 1 << 30
    num_workers = 1

    def run(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[tuple[int, R]]:
        for index, item in enumerate(items):
            for _, result in RayExecutor().run(task, shared, [item]):
                yield index, result


class DyingWorker:
    """Ray, with a worker that is killed once in the middle of a fusion."""

    task_bytes = 1 << 30
    num_workers = 2

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def run(self, task: Callable[[S, T], R], shared: S, items: Sequence[T]) -> Iterator[tuple[int, R]]:
        if task is not fuse_part:
            return RayExecutor().run(task, shared, items)
        return RayExecutor().run(kill_worker_once, (self._marker, shared), items)  # type: ignore[arg-type, return-value]


@pytest.fixture(scope="module")
def ray_on_two_cpus() -> Iterator[RayExecutor]:
    prepare_ray()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # for the workers, which import ray_tasks
        with ray_executor(None, num_cpus=2) as executor:
            yield executor


def digest_of_a_round(folder: Path, executor: Executor) -> str:
    federation = make_federation(folder, MODEL, num_files=3)
    lead(federation)
    for seed, name in enumerate(("ada", "ben")):
        contribute(federation, name, make_changes(MODEL, seed))
    lead(federation, executor=executor)
    assert federation.latest().release == 1
    return federation.latest().model_digest


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    return digest_of_a_round(tmp_path_factory.mktemp("threads"), ThreadExecutor(2))


@pytest.mark.parametrize("executor", [OneByOne(), RayExecutor()], ids=["one worker", "two workers"])
def test_ray_makes_the_bytes_that_threads_make(ray_on_two_cpus, tmp_path: Path, expected: str, executor) -> None:
    assert digest_of_a_round(tmp_path, executor) == expected


def digest_of_an_encoded_round(folder: Path, executor: Executor) -> str:
    folder.mkdir()
    federation = make_federation(folder, MODEL, num_files=3, quorum=3)
    lead(federation)
    name, some = "embeddings.weight", sparse(90, 400)
    mask = make_mask(folder, schema_of(federation), {name: some.indices})
    send(federation, "ada", {name: factors(50, 8, 3)}, folder)
    send(federation, "ben", {name: sparse(40, 400, seed=4), "layer.weight": factors(8, 8, 2)}, folder)
    send(federation, "cy", {name: some}, folder, mask=mask)
    lead(federation, executor=executor)
    assert federation.latest().release == 1
    return federation.latest().model_digest


def test_ray_expands_what_threads_expand(ray_on_two_cpus, tmp_path: Path) -> None:
    on_threads = digest_of_an_encoded_round(tmp_path / "threads", ThreadExecutor(2))
    assert digest_of_an_encoded_round(tmp_path / "ray", RayExecutor()) == on_threads


def test_a_worker_that_is_killed_changes_nothing(ray_on_two_cpus, tmp_path: Path, expected: str) -> None:
    marker = tmp_path / "killed"
    assert digest_of_a_round(tmp_path, DyingWorker(marker)) == expected
    assert not psutil.pid_exists(int(marker.read_text()))


def test_an_error_of_a_task_arrives_as_itself(ray_on_two_cpus: RayExecutor) -> None:
    for error in (FusionError("a: b"), DigestMismatchError("c"), ContributionRejectedError("d"), CodecError("e")):
        with pytest.raises(type(error)) as caught:
            list(ray_on_two_cpus.run(raise_error, error, [1, 2, 3]))
        assert type(caught.value) is type(error)
        assert str(caught.value) == str(error)


def test_a_cluster_that_shrinks_while_tasks_run_gets_no_more_until_there_is_room(
    ray_on_two_cpus: RayExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([8.0, 8.0, *[1.0] * 100])
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": next(counts)})
    assert len(dict(ray_on_two_cpus.run(tell_process, None, range(40)))) == 40


def test_a_bug_in_a_task_is_not_hidden(ray_on_two_cpus: RayExecutor) -> None:
    with pytest.raises(ZeroDivisionError, match="item 7"):
        list(ray_on_two_cpus.run(raise_bug, None, [7]))


def test_tasks_run_in_other_processes(ray_on_two_cpus: RayExecutor) -> None:
    pids = dict(ray_on_two_cpus.run(tell_process, None, range(4)))
    assert sorted(pids) == [0, 1, 2, 3]
    assert psutil.Process().pid not in pids.values()


def listening_of(process: psutil.Process) -> set[tuple[str, str]]:
    try:
        return {
            (process.name(), connection.laddr.ip.removeprefix("::ffff:"))  # IPv4 on a socket that takes both
            for connection in process.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
        }
    except psutil.NoSuchProcess:  # it ended meanwhile
        return set()


def test_ray_listens_on_loopback_only(ray_on_two_cpus: RayExecutor) -> None:
    list(ray_on_two_cpus.run(tell_process, None, range(4)))
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = {found for process in processes for found in listening_of(process)}
    assert {name for name, _ in listening} >= {"gcs_server", "raylet"}
    assert not {(name, ip) for name, ip in listening if not ipaddress.ip_address(ip).is_loopback}


def test_folders_are_fused_by_ray_too(ray_on_two_cpus: RayExecutor, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", MODEL)
    models = [write_model(tmp_path / f"m{seed}", make_model(seed)) for seed in (1, 2)]
    digests = {
        fuse(base, models, tmp_path / f"o{n}", executor=executor)
        for n, executor in enumerate((ThreadExecutor(2), ray_on_two_cpus))
    }
    assert len(digests) == 1


CALLED_LIKE_A_TASK = """
import ctypes, os, signal
ctypes.CDLL(None).prctl(15, b"ray::somebody", 0, 0, 0)  # PR_SET_NAME
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process is given another's name as Linux does it")
def test_a_stopped_worker_is_ended_and_another_cluster_s_is_left_alone(
    ray_on_two_cpus: RayExecutor, tmp_path: Path
) -> None:
    import ray

    with subprocess.Popen([sys.executable, "-c", CALLED_LIKE_A_TASK]) as others:
        try:
            foreign = psutil.Process(others.pid)
            wait_until(lambda: is_stopped(foreign), "the other cluster's worker to stop")
            assert has_task(foreign)  # by its name nobody could tell
            marker, found = tmp_path / "stopped", list[tuple[int, int]]()
            work = threading.Thread(target=lambda: found.extend(RayExecutor().run(stand_still_once, marker, [0])))
            work.start()
            wait_until(lambda: marker.is_file() and bool(marker.read_text()), "a worker to stop")
            stopped = int(marker.read_text())
            ray.get(ray.remote(num_cpus=0, max_retries=0)(tend_machine).remote())
            work.join(60)
            assert [index for index, _ in found] == [0]
            assert found[0][1] != stopped
            assert not psutil.pid_exists(stopped)
            assert is_stopped(foreign)
        finally:
            others.send_signal(signal.SIGKILL)
