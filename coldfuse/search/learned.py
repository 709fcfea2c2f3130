"""Searches that learn coefficients by gradients, and end with a table of them that the engine fuses exactly.

Learning holds the base, every contribution's delta, and one fused model with its gradient in memory at once, in float32
(the originals do too). What is fused is not that: the table goes through the same streaming fusion as every method.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from coldfuse.engine.execution import Executor, default_memory_bytes
from coldfuse.engine.folder_fusion import FolderFusion, open_base
from coldfuse.engine.tied import find_tied
from coldfuse.errors import UserInputError
from coldfuse.fusion.average.task_arithmetic import TaskArithmetic
from coldfuse.fusion.settings import WEIGHT, Setting, Settings, Table
from coldfuse.search.adamerging import learn_adamerging
from coldfuse.search.methods import SEARCHES, AdaMerging, LearnedSoup
from coldfuse.search.resident import Learned, Task, load_models
from coldfuse.search.soup import learn_soup
from coldfuse.search.trials import Found, Trial, Trials, fusing_order, num_fused_elements

_BESIDE_DELTAS = 4
"""Models that are held beside the deltas: the base, a fused one, its gradient, and a product on its way there."""


def learn(
    request: FolderFusion,
    tasks: Sequence[Task],
    executor: Executor,
    *,
    memory_bytes: int | None = None,
    callback: Callable[[Trial], None] | None = None,
) -> Found:
    """Learn the coefficients that the recipe's search asks for.

    Args:
        request: What is fused, and where to; its recipe has a search that learns.
        tasks: Held-out data: of one task for `learned-soup`, of one or more for `adamerging`.
        executor: Runs the fusions of each model with the base.
        memory_bytes: What learning may hold; an eighth of the machine's memory if it is not given.
        callback: Called with both trials: minus what is minimised (cross entropy, entropy), at the start and learned.

    Returns:
        A request whose models have the learned table as weights, and as its score minus what was minimised.
    """
    search = request.recipe.combiner
    if not isinstance(search, LearnedSoup | AdaMerging):
        raise UserInputError("expected a search that learns: learned-soup or adamerging")
    with Trials(request.out, executor, callback) as trials:
        order = fusing_order(request)
        _require_resident(request, search, memory_bytes or default_memory_bytes())
        base = trials.local_base(request)
        folders = _folders(replace(request, base=base), order, trials)
        learned = _learn(request, base, search, tasks, folders)
        what = "cross entropy" if isinstance(search, LearnedSoup) else "entropy of predictions"
        trials.add(f"minus the {what}, at the start", -learned.before, kept=False)
        trials.add(f"minus the {what}, learned", -learned.after, kept=True)
    recipe = replace(request.recipe, combiner=TaskArithmetic(scale=1))
    return Found(
        request=replace(request, recipe=recipe, settings=_settings(request, learned, order)),
        weights=_means(learned, order), score=-learned.after, trace=tuple(trials.trace),
    )  # fmt: skip


def _learn(
    request: FolderFusion, base: Path, search: LearnedSoup | AdaMerging, tasks: Sequence[Task], folders: Iterator[Path]
) -> Learned:
    models = load_models(base, folders, len(request.models), device=request.device)
    seed = zlib.crc32(request.seed.encode())
    if isinstance(search, LearnedSoup):
        if len(tasks) != 1:
            raise UserInputError(f"learned-soup averages models of one task: expected one --data, got {len(tasks)}")
        return learn_soup(models, tasks[0], search, seed=seed)
    if not tasks:
        raise UserInputError("adamerging: expected --data for each task, and there is none")
    return learn_adamerging(models, tasks, search, seed=seed)


def _folders(request: FolderFusion, order: Sequence[int], trials: Trials) -> Iterator[Path]:
    """Yield a folder of the base with each contribution's delta, after the recipe's transforms; one at a time."""
    alone = replace(request.recipe, combiner=TaskArithmetic(scale=1), outers=())
    for index in order:
        with trials.fused(replace(request, models=[request.models[index]], recipe=alone)) as folder:
            yield folder


def _require_resident(request: FolderFusion, search: LearnedSoup | AdaMerging, memory_bytes: int) -> None:
    count = len(request.models)
    needed = 4 * num_fused_elements(request) * (count + _BESIDE_DELTAS)
    if needed > memory_bytes:
        name = next(name for name, kind in SEARCHES.items() if kind is type(search))
        raise UserInputError(
            f"{name} holds all {count} models in memory while it learns: about {needed / 2**20:.1f} MiB beside the "
            f"texts of a batch, and {memory_bytes / 2**20:.1f} MiB may be taken; give more --memory, or take "
            "greedy-soup, which holds one model at a time"
        )


def _settings(request: FolderFusion, learned: Learned, order: Sequence[int]) -> list[Settings]:
    """Return each model's coefficients as weights, in the order of the request; tied tensors go by the first name."""
    tied = find_tied(open_base(request))
    found: list[Settings] = [{}] * len(order)
    for column, index in enumerate(order):
        numbers = {tied.get(tensor, tensor): row[column] for tensor, row in learned.table.items()}
        found[index] = {WEIGHT: Setting((Table(numbers),))}
    return found


def _means(learned: Learned, order: Sequence[int]) -> tuple[float, ...]:
    """Return the mean of each model's coefficients over the tensors, in the order of the request."""
    rows = [row for tensor, row in learned.table.items() if tensor != "*"] or list(learned.table.values())
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return tuple(mean for _, mean in sorted(zip(order, means, strict=True)))
