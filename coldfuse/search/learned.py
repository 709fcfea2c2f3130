"""Searches that learn coefficients by gradients, and end with a table of them that the engine fuses exactly.

Learning holds the base, every contribution's delta, and one fused model with its gradient in memory at once, in float32
(the originals do too). What is fused is not that: the table goes through the same streaming fusion as every method.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.engine.execution import Executor, default_memory_bytes
from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders, require_absent
from coldfuse.engine.outputs import Output
from coldfuse.engine.staging import scratch_beside
from coldfuse.errors import UserInputError
from coldfuse.fusion.average.task_arithmetic import TaskArithmetic
from coldfuse.fusion.average.tensor_weights import TensorWeights
from coldfuse.search.methods import (
    SEARCHES,
    AdaMerging,
    Found,
    LearnedSoup,
    Search,
    Told,
    Trial,
    fused_in,
    fusing_order,
)
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.folders import is_remote

if TYPE_CHECKING:
    from coldfuse.search.resident import Learned, ResidentModels, Task

_BESIDE_DELTAS = 4
"""Models that are held beside the deltas: the base, a fused one, its gradient, and a product on its way there."""


def learn(
    request: FolderFusion,
    tasks: Sequence[Task],
    executor: Executor,
    *,
    memory_bytes: int | None = None,
    told: Told | None = None,
) -> Found:
    """Learn the coefficients that the recipe's search asks for.

    `Found.score` and the two trials are minus what is minimised (cross entropy, entropy), before and after.
    """
    search = request.recipe.combiner
    if not isinstance(search, LearnedSoup | AdaMerging):
        raise UserInputError("expected a search that learns: learned-soup or adamerging")
    require_absent(request.out)
    order = fusing_order(request)
    name = next(name for name, kind in SEARCHES.items() if kind is type(search))
    _require_resident(request, name, memory_bytes or default_memory_bytes())
    with scratch_beside(request.out, "trying") as scratch:
        local = replace(request, base=_local_base(request, scratch, executor))
        learned = _learn(local, search, tasks, _folders(local, order, scratch, executor))
    what = "cross entropy" if isinstance(search, LearnedSoup) else "entropy of predictions"
    trace = (
        Trial(what=f"minus the {what}, at the start", score=-learned.before, kept=False),
        Trial(what=f"minus the {what}, learned", score=-learned.after, kept=True),
    )
    if told is not None:
        told(trace[0])
        told(trace[1])
    recipe = replace(request.recipe, combiner=TensorWeights(table=learned.table))
    weights = _means(learned, order)
    return Found(request=replace(request, recipe=recipe), weights=weights, score=-learned.after, trace=trace)


def _learn(request: FolderFusion, search: Search, tasks: Sequence[Task], folders: Iterator[Path]) -> Learned:
    from coldfuse.search.adamerging import AdaMergingSettings, learn_adamerging
    from coldfuse.search.resident import load_models
    from coldfuse.search.soup import SoupSettings, learn_soup

    models: ResidentModels = load_models(Path(request.base), folders, len(request.models), device=request.device)
    seed = zlib.crc32(request.seed.encode())
    if isinstance(search, LearnedSoup):
        if len(tasks) != 1:
            raise UserInputError(f"learned-soup averages models of one task: expected one --data, got {len(tasks)}")
        return learn_soup(models, tasks[0], SoupSettings(**search.model_dump(), seed=seed))
    if not tasks:
        raise UserInputError("adamerging: expected --data for each task, and there is none")
    return learn_adamerging(models, tasks, AdaMergingSettings(**search.model_dump(), seed=seed))


def _folders(request: FolderFusion, order: Sequence[int], scratch: Path, executor: Executor) -> Iterator[Path]:
    """Yield a folder of the base with each contribution's delta, after the recipe's transforms; one at a time."""
    alone = replace(request.recipe, combiner=TaskArithmetic(scale=1), outers=())
    for index in order:
        with fused_in(scratch, replace(request, models=[request.models[index]], recipe=alone), executor) as folder:
            yield folder


def _local_base(request: FolderFusion, scratch: Path, executor: Executor) -> Path:
    """Return a folder that torch can load the base from: it, or a copy of one in S3."""
    if not is_remote(request.base):
        return Path(request.base)
    still = replace(request.recipe, transforms=(), combiner=TaskArithmetic(scale=0), outers=())
    folder = scratch / "base"
    fuse_folders(replace(request, models=request.models[:1], recipe=still, out=folder, output=Output()), executor)
    return folder


def _require_resident(request: FolderFusion, name: str, memory_bytes: int) -> None:
    count = len(request.models)
    num_elements = sum(spec.num_elements for spec in open_checkpoint(request.base).schema.values() if spec.is_fused)
    needed = 4 * num_elements * (count + _BESIDE_DELTAS)
    if needed > memory_bytes:
        raise UserInputError(
            f"{name} holds all {count} models in memory while it learns: about {needed / 2**20:.1f} MiB beside the "
            f"texts of a batch, and {memory_bytes / 2**20:.1f} MiB may be taken; give more --memory, or take "
            "greedy-soup, which holds one model at a time"
        )


def _means(learned: Learned, order: Sequence[int]) -> tuple[float, ...]:
    """Return the mean of each model's coefficients over the tensors, in the order of the request."""
    rows = [row for tensor, row in learned.table.items() if tensor != "*"] or list(learned.table.values())
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return tuple(mean for _, mean in sorted(zip(order, means, strict=True)))
