"""Run the passes that measure, and hand what they found to the formulas."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from mmap import mmap
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from coldfuse.engine.execution import Executor
from coldfuse.engine.job import Fusion
from coldfuse.engine.measure import Measuring, count_shard, group_of, measured_pieces, sample_shard, sum_shard
from coldfuse.engine.passes import Pass, Progress, counted_tensors, first_windows, num_rows, num_sampled
from coldfuse.fusion.block import Float64
from coldfuse.fusion.method import Ranked
from coldfuse.fusion.selection import Counts, Windows, guess, narrow, nothing

R = TypeVar("R")
S = TypeVar("S")


def run_pass(
    executor: Executor, one: Pass, task: Callable[[S, Any], R], shared: S, progress: Progress | None
) -> Iterator[tuple[int, R]]:
    """Run a pass's tasks; yield each result with the index of its shard, as it is ready.

    Args:
        executor: Runs the tasks.
        one: The pass.
        task: Called as `task(shared, shard)`, in any process.
        shared: What all tasks of the pass share.
        progress: Called as the pass begins and as its tasks are done.
    """
    if progress is not None:
        progress(one, None)
    for index, result in executor.run(task, shared, one.shards):
        if progress is not None:
            progress(one, index)
        yield index, result


def measure_all(
    executor: Executor, passes: Sequence[Pass], fusion: Fusion, *, progress: Progress | None = None
) -> Fusion:
    """Run the passes that measure, one after the other: a step's measures may look at what the steps before it found.

    Args:
        executor: Runs the tasks.
        passes: The list of `plan_passes`; what does not measure is left out.
        fusion: What is fused, without results.
        progress: Called as passes begin and shards are done.

    Returns:
        The fusion with all results, which the recipe's formulas need.
    """
    ranks: dict[tuple[int, int], _Ranks] = {}
    for one in (one for one in passes if one.measures):
        measuring = Measuring(fusion=fusion, step=one.step, measure=one.measure, stride=one.stride)
        if one.kind == "sum":
            fusion = _with(measuring, _sum(executor, one, measuring, progress))
            continue
        if (one.step, one.measure) not in ranks:
            ranks[one.step, one.measure] = _Ranks(measuring, one)
        found = ranks[one.step, one.measure]
        if one.kind == "sample":
            found.sample(executor, one, progress)
            continue
        found.count(executor, one, progress)
        while one.is_last_count and found.windows:  # a sample misled, and some ranks lie outside its windows
            found.count(executor, replace(one, shards=found.shards_left(one)), progress)
        if one.is_last_count:
            fusion = _with(measuring, found.ranked)
    return fusion


def _with(measuring: Measuring, found: Mapping[str, Float64]) -> Fusion:
    """Return a fusion that knows what a measure found, by tensor or for the model."""
    fusion, step, name = measuring.fusion, measuring.step, measuring.what.name
    measured = dict(fusion.measured)
    for group, result in found.items():
        measured[step, group] = {**measured.get((step, group), {}), name: result}
    return replace(fusion, measured=measured)


def _sum(executor: Executor, one: Pass, measuring: Measuring, progress: Progress | None) -> dict[str, Float64]:
    sums: dict[str, Float64] = {}
    # Added in the order of shards: sums of floats depend on it, and results come in any order.
    for result in in_order(run_pass(executor, one, sum_shard, measuring, progress)):
        for group, part in result.items():
            sums[group] = sums[group] + part if group in sums else part
    return sums


class _Ranks:
    """The ranks of one measure, over the passes that close in on them."""

    def __init__(self, measuring: Measuring, one: Pass) -> None:
        self._measuring, self._measure = measuring, cast(Ranked, measuring.what)
        self._rows = num_rows(measuring.fusion, self._measure)
        fusion = measuring.fusion
        sizes = {"": fusion.num_elements} if self._measure.per == "model" else counted_tensors(fusion, one.shards)
        self.windows = {name: first_windows(measuring, self._measure, size, name) for name, size in sizes.items()}
        """Where to count next, by tensor, or "" for the model; empty when all ranks are known."""
        self._ranked: dict[str, Float64] = {}

    @property
    def ranked(self) -> dict[str, Float64]:
        """The values by tensor, or "" for the model, shape (R, number of ranks)."""
        return {group: values.reshape(self._rows, -1) for group, values in self._ranked.items()}

    def sample(self, executor: Executor, one: Pass, progress: Progress | None) -> None:
        """Narrow the model's window to where a sample says that the ranks lie."""
        measuring = replace(self._measuring, stride=one.stride)
        found = in_order(run_pass(executor, one, sample_shard, measuring, progress))
        sample_RM = _joined(self._rows, found)
        self.windows = {"": guess(self.windows[""], sample_RM, self._measuring.fusion.num_elements)}

    def count(self, executor: Executor, one: Pass, progress: Progress | None) -> None:
        """Count values in the windows, and narrow each as soon as its tensor is done."""
        narrowed: dict[str, Windows] = {}
        totals: dict[str, Counts] = {}
        missing = Counter(
            group for shard in one.shards for group in {group_of(self._measure, p) for p in measured_pieces(shard)}
        )
        measuring = replace(self._measuring, windows=self.windows, stride=0)
        for _, result in run_pass(executor, one, count_shard, measuring, progress):
            self._ranked |= result.ranked
            for group, part in result.counts.items():
                windows = self.windows[group]
                totals.setdefault(group, nothing(windows, self._measuring.fusion.num_elements)).add(part)
                missing[group] -= 1
                if not missing[group]:  # the counters of a thousand tensors would not fit
                    narrowed[group] = narrow(windows, totals.pop(group))
        self._ranked |= {group: found for group, w in narrowed.items() if (found := w.found) is not None}
        self.windows = {group: w for group, w in narrowed.items() if group not in self._ranked}

    def shards_left(self, one: Pass) -> list[Any]:
        """Return the shards that hold values of what is not known yet."""
        return [s for s in one.shards if any(group_of(self._measure, p) in self.windows for p in measured_pieces(s))]


def _joined(rows: int, parts: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put the parts of a sample beside each other as they come: to hold them all twice would take much memory."""
    shape = rows, num_sampled(rows) * 5 // 4  # the last runs may overshoot
    # Memory of its own, which goes back to the system: freed memory of such a size may stay with the process.
    sample_RM = np.frombuffer(mmap(-1, 4 * math.prod(shape)), np.float32).reshape(shape)
    filled = 0
    for part in (part for part in parts if part.size):
        taken = part[:, : sample_RM.shape[1] - filled]
        sample_RM[:, filled : filled + taken.shape[1]] = taken
        filled += taken.shape[1]
    return sample_RM[:, :filled]


def in_order(results: Iterator[tuple[int, R]]) -> Iterator[R]:
    """Yield results in the order of their items; those that come early wait."""
    waiting: dict[int, R] = {}
    wanted = 0
    for index, result in results:
        waiting[index] = result
        while wanted in waiting:
            yield waiting.pop(wanted)
            wanted += 1
