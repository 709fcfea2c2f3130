from __future__ import annotations

import threading

import pytest

from coldfuse.engine.execution import ThreadExecutor, gpu_share
from coldfuse.errors import CodecError, UserInputError


def multiply(shared: int, item: int) -> int:
    return shared * item


@pytest.mark.parametrize("threads", [1, 3])
def test_every_item_comes_back_with_its_index(threads: int) -> None:
    items = list(range(50))
    assert dict(ThreadExecutor(threads).run(multiply, 3, items)) == {i: 3 * i for i in items}


def test_no_items_are_no_results() -> None:
    assert list(ThreadExecutor(2).run(multiply, 3, [])) == []


def test_the_first_error_is_raised_and_nothing_more_is_begun() -> None:
    begun: list[int] = []

    def fail(_: None, item: int) -> None:
        begun.append(item)
        if item:
            threading.Event().wait(0.2)  # long enough for the first error to be noticed meanwhile
        raise CodecError(f"item {item}")

    with pytest.raises(CodecError, match="item 0"):
        list(ThreadExecutor(1).run(fail, None, range(100)))
    assert len(begun) < 100


def test_whoever_stops_listening_stops_the_work() -> None:
    gate = threading.Event()
    begun: list[int] = []

    def work(_: None, item: int) -> int:
        begun.append(item)
        if item:
            gate.wait(10)
        return item

    results = ThreadExecutor(1).run(work, None, range(100))
    assert next(results) == (0, 0)
    gate.set()
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 100


@pytest.mark.parametrize(
    ("resources", "share"),
    [({"CPU": 16, "GPU": 1}, 0.0625), ({"CPU": 3, "GPU": 1}, 0.3333), ({"CPU": 2, "GPU": 4}, 1), ({"GPU": 1}, 1)],
)
def test_tasks_on_ray_share_the_gpus(resources: dict[str, float], share: float) -> None:
    assert gpu_share("cuda", resources) == share


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_tasks_on_the_cpu_ask_ray_for_no_gpu(device: str) -> None:
    assert gpu_share(device, {"CPU": 16, "GPU": 4}) == 0


@pytest.mark.parametrize(
    ("device", "resources", "reason"),
    [("cuda", {"CPU": 4}, "has no GPU"), ("cuda:1", {"CPU": 4, "GPU": 2}, "Ray chooses among the GPUs")],
)
def test_gpus_that_ray_cannot_give_are_refused(device: str, resources: dict[str, float], reason: str) -> None:
    with pytest.raises(UserInputError, match=f"--device {device}: .*{reason}"):
        gpu_share(device, resources)
