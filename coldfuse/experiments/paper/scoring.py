"""Score a model on data sets, as the paper does (section 3), by `coldfuse.evaluation`.

- frozen: a linear probe of the body's features (ColD-Frozen)
- fine-tuned: body and head are trained, as at a node, and tested (ColD); a part of the examples chooses the best epoch
- few-shot: the same on a hundred labels, over several draws of them

Scores lie in files of their own, named by all that decides them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean

from coldfuse.data.dataset import TextDataset
from coldfuse.durable import write_whole
from coldfuse.evaluation import settings as evaluation
from coldfuse.evaluation.probe import linear_probes
from coldfuse.evaluation.protocols import Model, Scoring, score_model
from coldfuse.evaluation.settings import ScoringSettings
from coldfuse.evaluation.suites import Suite
from coldfuse.experiments.paper.making import Workshop, make
from coldfuse.experiments.paper.plan import Wanted
from coldfuse.experiments.paper.protocol import Share
from coldfuse.experiments.paper.values import Protocol, Sizes
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.schedule import derive_seed
from coldfuse.training.tasks import DEFAULT_TASK


def known(shop: Workshop, wanted: Wanted) -> float | None:
    """Return the accuracy that was found for a score; None where it, or a draw of it, was not counted yet."""
    paths = [_path(shop, item) for item in draws_of(shop.sizes, wanted)]
    if not all(path.exists() for path in paths):
        return None
    return fmean(float(json.loads(path.read_bytes())["accuracy"]) for path in paths)


def draws_of(sizes: Sizes, wanted: Wanted) -> list[Wanted]:
    """Return what a score is the mean of: itself, and for a few-shot one the same with other draws of the labels."""
    num = sizes.draws if wanted.protocol == "few-shot" else 1
    others = [replace(wanted, seed=derive_seed(wanted.seed, "draw", place)) for place in range(1, num)]
    return [wanted, *others]


def score(shop: Workshop, wanted: Sequence[Wanted]) -> None:
    """Count and keep scores of one model by one protocol and seed, on several data sets; what is there is kept."""
    wanted = [item for item in wanted if known(shop, item) is None]
    if not wanted:
        return
    folder = make(shop, wanted[0].model)
    if wanted[0].protocol == "frozen":  # all at once: the model is loaded but once
        for item, accuracy in zip(wanted, _frozen(shop, folder, wanted), strict=True):
            _keep(shop, item, accuracy)
    else:
        for item in (draw for whole in wanted for draw in draws_of(shop.sizes, whole)):
            if not _path(shop, item).exists():
                _keep(shop, item, _fine_tuned(shop, folder, item))


def scored_share(sizes: Sizes, wanted: Wanted) -> Share:
    """Return the examples that a probe is fitted on, or that a base is fine-tuned on to be scored."""
    return Share(set=wanted.set, first=0, count=sizes.few if wanted.protocol == "few-shot" else sizes.scoring)


def scored_epochs(sizes: Sizes, protocol: Protocol) -> int:
    """Return the passes over them; 0 where nothing is trained but a probe."""
    return {"frozen": 0, "fine-tuned": sizes.scoring_epochs, "few-shot": sizes.few_epochs}[protocol]


def _frozen(shop: Workshop, folder: Path, wanted: Sequence[Wanted]) -> list[float]:
    tasks = [(_examples(shop, item), shop.tasks[item.set].test) for item in wanted]
    probes = linear_probes(folder, tasks, max_length=shop.sizes.max_length, threads=shop.threads)
    return [probe.accuracy for probe in probes]


def _fine_tuned(shop: Workshop, folder: Path, wanted: Wanted) -> float:
    sizes, task = shop.sizes, shop.tasks[wanted.set]
    is_few = wanted.protocol == "few-shot"
    model = Model(name=wanted.variant, folder=folder, digest=open_checkpoint(folder).digest())
    suite = Suite(
        name=wanted.set, task=DEFAULT_TASK, train=task.train if is_few else _examples(shop, wanted),
        tests={"": task.test},
    )  # fmt: skip
    settings = ScoringSettings(
        max_length=sizes.max_length, num_epochs=scored_epochs(sizes, wanted.protocol), batch_size=sizes.batch_size,
        learning_rate=sizes.learning_rate, threads=shop.threads,
    )  # fmt: skip
    protocol = evaluation.Protocol(kind="fine-tuned", shots=sizes.few if is_few else None)
    return score_model(model, suite, protocol, seed=wanted.seed, scoring=Scoring(settings=settings)).measured[""].value


def _examples(shop: Workshop, wanted: Wanted) -> TextDataset:
    share = scored_share(shop.sizes, wanted)
    count = min(share.count, len(shop.tasks[wanted.set].train))
    return shop.examples(Share(set=share.set, first=0, count=count), wanted.seed)


def _keep(shop: Workshop, wanted: Wanted, accuracy: float) -> None:
    write_whole(_path(shop, wanted), json.dumps({"accuracy": accuracy, "model": wanted.model.name}).encode())


def _path(shop: Workshop, wanted: Wanted) -> Path:
    return shop.work / "scores" / f"{_name(shop, wanted)}.json"


def _name(shop: Workshop, wanted: Wanted) -> str:
    sizes = shop.sizes
    decisive = [
        wanted.model.name, wanted.protocol, wanted.seed, shop.digests[wanted.set], asdict(scored_share(sizes, wanted)),
        scored_epochs(sizes, wanted.protocol)
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16]
