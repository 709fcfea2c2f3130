"""A Ray cluster of three nodes: joined by its address, a node lost in the middle, and the bytes that threads make."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from cluster_tasks import Held, hold_on_one_node, meet, this_node
from commands import is_alive, name_if_alive, wait_until
from folder_fusions import fuse
from tiny_rounds import Model, contribute, floats, lead, make_changes, make_federation, make_model, write_model

from coldfuse.config import prepare_ray
from coldfuse.engine.execution import RayExecutor, ThreadExecutor, ray_executor
from coldfuse.engine.fuse import fuse_part
from coldfuse.engine.measure import count_shard
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300}
"""A node whose port is closed is given up after five looks; one that is slow to answer has ten seconds for each."""

NUM_FILES = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    prepare_ray()
    from ray.cluster_utils import Cluster  # only now: ray reads its settings when it is imported

    subprocess.run([Path(sys.executable).with_name("ray"), "get-auth-token", "--generate"], check=True, timeout=60)
    before = set(psutil.Process().children(recursive=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # for the workers, which import cluster_tasks
        cluster = Cluster(
            initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": QUICK}
        )
        try:
            for _ in range(2):
                cluster.add_node(**NODE)
            yield cluster
            family = set(psutil.Process().children(recursive=True)) - before
            assert {process.name() for process in family} >= {"gcs_server", "raylet"}
        finally:
            cluster.shutdown()
    wait_until(lambda: not any(map(is_alive, family)), f"the end of {family}", limit_s=30)


@pytest.fixture
def joined(cluster: Cluster) -> Iterator[RayExecutor]:
    with ray_executor(cluster.address) as executor:
        wait_until(has_three_nodes, "three nodes")
        yield executor


def has_three_nodes() -> bool:
    import ray

    return ray.cluster_resources().get("CPU") == 3


class LosingNode:
    """The cluster; in the middle of one pass, after its first result, a node is killed that is working on another."""

    task_bytes = 1 << 30
    num_workers = 1

    def __init__(self, cluster: Cluster, task: Callable[..., Any], folder: Path) -> None:
        self._cluster, self._task, self._marker = cluster, task, folder / "marker"
        self._victim = next(node for node in cluster.worker_nodes if node.node_id != this_node())
        self.left = -1
        """Results that were missing when the node was killed."""

    def run(self, task: Callable[..., Any], shared: Any, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        if task is not self._task or self.left >= 0:
            yield from RayExecutor().run(task, shared, items)
            return
        held = Held(task, shared, self._victim.node_id, self._marker)
        results = RayExecutor().run(hold_on_one_node, held, items)
        yield next(results)
        assert self._marker.exists()
        self._cluster.remove_node(self._victim, allow_graceful=False)  # SIGKILL
        self.left = len(items) - 1
        yield from results

    def replace(self) -> None:
        self._cluster.add_node(**NODE)


def make_models(folder: Path, *, rows: int) -> tuple[Path, list[Path]]:
    """Write a base of many files, the first of which may have several parts, and three models."""
    rng = np.random.default_rng(0)
    shapes = {"large": (rows, 1024)} | {f"layer{i:02d}": (128, 96) for i in range(NUM_FILES - 1)}
    base: Model = {name: floats(rng.normal(size=shape)) for name, shape in shapes.items()}
    folders = [write_model(folder / "base", base, num_files=NUM_FILES)]
    for index in range(3):
        model = {name: floats(t.floats + rng.normal(size=t.spec.shape) * 0.01) for name, t in base.items()}
        folders.append(write_model(folder / f"m{index}", model, num_files=NUM_FILES))
    return folders[0], folders[1:]


@pytest.mark.parametrize(
    ("method", "task", "rows"),
    [
        ("mean", fuse_part, 5000),  # 20 MB: a tensor cut into two parts
        ("dare then ties then nesterov", count_shard, 5000),
        ("iso-c", fuse_part, 100),
    ],
)
def test_a_node_that_is_lost_in_the_middle_changes_nothing(
    cluster: Cluster, joined: RayExecutor, tmp_path: Path, method: str, task: Callable[..., Any], rows: int
) -> None:
    base, models = make_models(tmp_path, rows=rows)
    expected = fuse(base, models, tmp_path / "threads", method, executor=ThreadExecutor(2))
    executor = LosingNode(cluster, task, tmp_path)
    try:
        assert fuse(base, models, tmp_path / "cluster", method, executor=executor) == expected
        assert executor.left > 5
        assert len(cluster.worker_nodes) == 1
    finally:
        executor.replace()
    assert files_of(tmp_path / "cluster") == files_of(tmp_path / "threads")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_round_on_a_cluster_makes_the_release_that_threads_make(joined: RayExecutor, tmp_path: Path) -> None:
    model = make_model()
    federation = make_federation(tmp_path, model, num_files=3, method="clip then dare then ties then nesterov")
    lead(federation)
    for seed, name in enumerate(("ada", "ben", "cy")):
        contribute(federation, name, make_changes(model, seed))
    copy = open_federation(LocalStore(shutil.copytree(federation.store.url, tmp_path / "copy")))
    lead(federation, executor=joined)
    lead(copy, executor=ThreadExecutor(2))
    release, expected = federation.latest(), copy.latest()
    assert release.release == 1
    assert (release.files, release.outer) == (expected.files, expected.outer)


def test_whoever_joins_uses_all_nodes_and_leaves_them_running(cluster: Cluster, tmp_path: Path) -> None:
    before = raylets()
    assert len(before) == 3
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        with ray_executor(cluster.address) as executor:
            wait_until(has_three_nodes, "three nodes")
            nodes = set(dict(executor.run(meet, (folder, 3), range(6))).values())
            assert len(nodes) == 3
    assert raylets() == before


def raylets() -> set[int]:
    return {p.pid for p in psutil.Process().children(recursive=True) if name_if_alive(p) == "raylet"}
