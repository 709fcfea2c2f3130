"""Tasks for a Ray cluster that loses a node: in a module of their own, since workers import them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 200.0


@dataclass(frozen=True)
class Held:
    """A task, what its calls share, and the node that is to be lost in the middle of it."""

    task: Callable[[Any, Any], Any]
    shared: Any
    victim: str
    """The node's id."""
    marker: Path
    """Written when a call has begun on that node."""


def this_node() -> str:
    import ray  # not before coldfuse has set how it runs

    return str(ray.get_runtime_context().get_node_id())


def meet(shared: tuple[Path, int], _item: int) -> str:
    """Wait until so many nodes have come here, each into a file; return this one."""
    folder, num_nodes = shared
    (folder / this_node()).touch()
    _wait(lambda: len(list(folder.iterdir())) == num_nodes, "not all nodes got a task")
    return this_node()


def hold_on_one_node(held: Held, item: Any) -> Any:
    """Do the task; on the one node do half of it and wait to be killed, on others wait until that one has begun."""
    result = held.task(held.shared, item)
    if this_node() == held.victim:
        held.marker.touch()
        threading.Event().wait(LIMIT_S)
        raise TimeoutError("nobody killed this node")
    _wait(held.marker.exists, "the node that is to be lost got no task")
    return result


def _wait(is_so: Callable[[], bool], otherwise: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end, otherwise
        time.sleep(0.01)
