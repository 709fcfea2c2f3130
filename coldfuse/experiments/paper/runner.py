"""Run an experiment: read the data, make what is missing, score it, and say how much time is left."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean

from coldfuse.consumer import hold
from coldfuse.errors import UserInputError
from coldfuse.experiments.fusion_data import Sizes as Taken
from coldfuse.experiments.fusion_data import Task, read_task
from coldfuse.experiments.paper.making import Workshop, remove
from coldfuse.experiments.paper.models import Averaged, Fused, Gated, Model, Pooled, Pretrained, Tuned
from coldfuse.experiments.paper.plan import Setting, Wanted, plan
from coldfuse.experiments.paper.results import Row
from coldfuse.experiments.paper.scoring import draws_of, known, score, scored_epochs, scored_share
from coldfuse.experiments.paper.values import Experiment, Sizes
from coldfuse.tensors.checkpoint import open_checkpoint

IN_USE = "another process works in it; wait for its end, or give another folder"
"""Why two processes do not share a folder, and what to do."""

_ALL = 1 << 40
_TRAINED = 3
"""What a training example costs, in examples that only pass forward: the way back is about two of them."""
_FUSED = 50
"""What fusing one contribution costs, in the same."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What an experiment is run on."""

    data: Path
    """Folder that has one for each data set."""
    base: Path
    """Folder of the pretrained model."""
    work: Path
    """Folder that keeps everything from run to run."""
    sets: Sequence[str] = ()
    """Data sets that are used; none: those that the experiment says."""
    unseen: Sequence[str] = ()
    """Data sets that nobody contributes; none: the experiment's folds."""
    threads: int = 1
    discards: bool = False
    """True to remove models that this experiment needs no more; their scores stay."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What came of it."""

    rows: list[Row]
    num_wanted: int
    """Scores that the experiment asks for; fewer rows where only what is kept was asked for."""
    base_digest: str
    data_digests: dict[str, str]
    seconds: float


def run(
    experiment: Experiment,
    sizes: Sizes,
    given: Given,
    *,
    tell: Callable[[str], None] = lambda _: None,
    only_kept: bool = False,
) -> Ran:
    """Run an experiment, or go on with it.

    Args:
        experiment: Which one.
        sizes: How large.
        given: On what, and where.
        tell: Called with a line about what was read, and about each model that was scored.
        only_kept: True to make nothing, and return the scores that are there.

    Raises:
        UserInputError: The data or the base cannot be used, or are too few for the experiment.
    """
    began = time.monotonic()
    tasks = read_tasks(given, experiment, sizes, tell)
    digests = {name: _digest_of(task) for name, task in tasks.items()}
    base_digest = open_checkpoint(given.base).digest()
    start = Pretrained(digest=base_digest, how=_how(sizes))
    lengths = {name: len(task.train) for name, task in tasks.items()}
    wanted = plan(Setting(
        experiment=experiment, sizes=sizes, start=start, lengths=lengths, digests=digests, unseen=given.unseen,
        kinds={name: kind for name in tasks if (kind := kind_of(given.data / name))},
    ))  # fmt: skip
    shop = Workshop(work=given.work, base=given.base, tasks=tasks, digests=digests, sizes=sizes, threads=given.threads)
    _ = shop.settings  # what cannot be trained with is refused before anything is made
    if not only_kept:
        with hold(given.work, hint=IN_USE):
            _make_all(shop, wanted, tell, discards=given.discards)
    rows = [row for item in wanted if (row := _row(shop, item)) is not None]
    return Ran(
        rows=rows, num_wanted=len(wanted), base_digest=base_digest, data_digests=digests,
        seconds=time.monotonic() - began,
    )  # fmt: skip


def read_tasks(given: Given, experiment: Experiment, sizes: Sizes, tell: Callable[[str], None]) -> dict[str, Task]:
    """Read the data sets by name. Raises `UserInputError` where there are none."""
    names = list(given.sets) or sorted(path.name for path in _folders(given.data))[: experiment.num_sets]
    if not names:
        raise UserInputError(f"{given.data}: expected a folder for each data set, and there is none")
    taken = Taken(train=_ALL, validation=sizes.validation, test=sizes.test)
    return {name: read_task(given.data / name, taken, seed=0, callback=tell) for name in sorted(set(names))}


def kind_of(folder: Path) -> str | None:
    """Return the kind of task that a data set's card names, as "sentiment" of "sentiment (films)"; None without one.

    Raises:
        UserInputError: The card is no JSON object.
    """
    card = folder / "card.json"
    if not card.exists():
        return None
    try:
        task = json.loads(card.read_bytes())["task"]
        return str(task).partition(" (")[0]
    except (ValueError, KeyError, TypeError) as error:
        raise UserInputError(f'{card}: expected an object with "task"; mend or remove it') from error


def _folders(data: Path) -> Iterator[Path]:
    if not data.is_dir():
        raise UserInputError(f"{data}: expected a folder that has one for each data set")
    return (path for path in data.iterdir() if path.is_dir() and any(path.glob("train.*")))


def _digest_of(task: Task) -> str:
    parts = [part.digest() for part in (task.train, task.validation, task.test)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _how(sizes: Sizes) -> str:
    """Return what decides how models are made, beside what their own values say."""
    return json.dumps([sizes.batch_size, sizes.learning_rate, sizes.max_length])


def _make_all(shop: Workshop, wanted: Sequence[Wanted], tell: Callable[[str], None], *, discards: bool) -> None:
    clock = Clock(left=sum(costs(shop, wanted).values()))
    shop = replace(shop, made=lambda model: clock.spend(cost_of(shop, model)))
    for number, some in enumerate(groups := list(_at_once(wanted)), start=1):
        before = [known(shop, item) for item in some]
        score(shop, some)
        clock.spend(sum(_score_cost(shop.sizes, i) for i, was in zip(some, before, strict=True) if was is None))
        if None in before:
            tell(f"{_said(shop, some)} ({number} of {len(groups)}{clock.said()})")
            if discards:
                discard(shop, made=wanted, needed=needed(shop, wanted))


def needed(shop: Workshop, wanted: Iterable[Wanted]) -> set[str]:
    """Return the names of the models on the disk that scores that are missing will be made of."""
    found: set[str] = set()
    seen: set[str] = set()
    stack = [item.model for item in wanted if known(shop, item) is None]
    while stack:
        model = stack.pop()
        if model.name in seen:
            continue
        seen.add(model.name)
        if shop.place(model).exists():
            found.add(model.name)
        else:
            stack += parts_of(model)
    return found


def discard(shop: Workshop, *, made: Iterable[Wanted], needed: Collection[str]) -> None:
    """Remove the models of an experiment, and what they were made of, but for those that are needed and the base."""
    stack, seen = [item.model for item in made], set[str]()
    while stack:
        model = stack.pop()
        if model.name not in seen:
            seen.add(model.name)
            stack += parts_of(model)
            if model.name not in needed and not isinstance(model, Pretrained):
                remove(shop.place(model))


def _at_once(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """Yield the scores of a model by one protocol together."""
    for _, some in groupby(wanted, key=lambda item: (item.model.name, item.protocol, item.seed, item.group)):
        yield list(some)


def _said(shop: Workshop, some: Sequence[Wanted]) -> str:
    first = some[0]
    mean = fmean(known(shop, item) or 0.0 for item in some)
    where = f"seed {first.seed}, fold {first.fold + 1}, {first.variant}, round {first.round}"
    return f"{where}: {first.protocol}, {first.group} {mean:.1%}"


@dataclass(kw_only=True)
class Clock:
    """How much is left, and how fast it goes."""

    left: float
    """Cost of what is still to be made, in examples."""
    done: float = 0.0
    began_s: float = field(default_factory=time.monotonic)

    def spend(self, cost: float) -> None:
        """Note what was made."""
        self.left, self.done = max(0.0, self.left - cost), self.done + cost

    def said(self) -> str:
        """Return the time that is left, for a line; nothing before anything was made."""
        if not self.done:
            return ""
        left_s = (time.monotonic() - self.began_s) / self.done * self.left
        return f", about {left_s / 60:.0f} min left" if left_s >= 60 else f", about {left_s:.0f} s left"


def costs(shop: Workshop, wanted: Iterable[Wanted]) -> dict[str, float]:
    """Return what each model and score that is missing will cost, in examples that pass forward."""
    found: dict[str, float] = {}
    for item in wanted:
        if known(shop, item) is None:
            found[f"{item.protocol} {item.seed} {item.set} {item.model.name}"] = _score_cost(shop.sizes, item)
            stack = [item.model]
            while stack:
                model = stack.pop()
                if model.name not in found and not shop.place(model).exists():
                    found[model.name] = cost_of(shop, model)
                    stack += parts_of(model)
    return found


def parts_of(model: Model) -> list[Model]:
    """Return the models that a model is made of."""
    if isinstance(model, Fused):
        return [model.start, *model.tuned]
    if isinstance(model, Gated):
        return [model.before, model.candidate]
    if isinstance(model, Averaged):
        return [model.before, model.latest]
    return [model.start] if isinstance(model, Tuned | Pooled) else []


def cost_of(shop: Workshop, model: Model) -> float:
    """Return what making a model costs, without its parts, in examples that pass forward."""
    if isinstance(model, Tuned):
        return model.training.epochs * (_TRAINED * model.share.count + shop.sizes.validation) + model.share.count
    if isinstance(model, Gated):
        return 2.0 * sum(share.count + shop.sizes.validation for share in model.shares)
    if isinstance(model, Pooled):
        count = sum(share.count for share in model.shares)
        return model.training.epochs * (_TRAINED * count + shop.sizes.validation * len(model.shares)) + count
    return float(_FUSED * len(model.tuned) if isinstance(model, Fused) else _FUSED)


def _score_cost(sizes: Sizes, wanted: Wanted) -> float:
    count, epochs = scored_share(sizes, wanted).count, scored_epochs(sizes, wanted.protocol)
    return len(draws_of(sizes, wanted)) * (
        sizes.test + count + epochs * (_TRAINED * count + min(count, sizes.validation))
    )


def _row(shop: Workshop, wanted: Wanted) -> Row | None:
    accuracy = known(shop, wanted)
    if accuracy is None:
        return None
    return Row(
        variant=wanted.variant, fold=wanted.fold, seed=wanted.seed, round=wanted.round, protocol=wanted.protocol,
        group=wanted.group, set=wanted.set, accuracy=accuracy, model=wanted.model.name,
    )  # fmt: skip
