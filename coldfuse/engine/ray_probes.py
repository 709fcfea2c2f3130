"""Ask every machine of a Ray cluster what its workers do, by small tasks that take no CPU of it."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from coldfuse.engine.work import Done, tend_machine

if TYPE_CHECKING:
    import ray

_PERIOD_S = 10.0
"""Seconds between two rounds of questions."""


class Probes:
    """The questions under way, at most one a machine."""

    def __init__(self) -> None:
        self._asked_at_s = float("-inf")
        self._under_way: dict[ray.ObjectRef[dict[Hashable, Done]], str] = {}
        self._answers: dict[Hashable, Done] = {}

    def is_due(self, now_s: float) -> bool:
        """Tell whether it is time to ask again."""
        return now_s - self._asked_at_s >= _PERIOD_S

    def ask(self, now_s: float) -> dict[Hashable, Done]:
        """Return what the machines have answered to earlier questions, and ask those that owe no answer.

        A machine that does not answer says nothing: Ray gives it up by itself, and runs its tasks elsewhere.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._asked_at_s = now_s
        for reference in [r for r in self._under_way if ray.wait([r], timeout=0)[0]]:
            node = self._under_way.pop(reference)
            try:
                self._answers |= {(node, pid): done for pid, done in ray.get(reference).items()}
            except ray.exceptions.RayError:
                continue  # the machine went away
        try:
            tend = ray.remote(num_cpus=0, max_retries=0)(tend_machine)
            nodes = {entry["NodeID"] for entry in ray.nodes() if entry["Alive"]}  # type: ignore[no-untyped-call]
            for node in nodes - set(self._under_way.values()):
                there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
                self._under_way[tend.options(scheduling_strategy=there).remote()] = node
        except ray.exceptions.RayError:
            return dict(self._answers)  # whoever waits for a task hears of it, too
        return dict(self._answers)
