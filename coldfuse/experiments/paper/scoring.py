"""Score a model on data sets, as the paper does (section 3): frozen, fine-tuned, and fine-tuned on a few labels.

    frozen       a linear probe of the body's features, as `coldfuse.evaluation.probe` fits it (ColD-Frozen)
    fine-tuned   body and head are trained, as at a node, and tested (ColD)
    few-shot     the same on a hundred labels, by which the best epoch is chosen too: nobody has more

Scores lie in files of their own, named by all that decides them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from coldfuse.data.dataset import TextDataset
from coldfuse.durable import write_whole
from coldfuse.evaluation.probe import linear_probes
from coldfuse.experiments.fusion_data import Task
from coldfuse.experiments.paper.making import Lesson, Workshop, head_of, make, train
from coldfuse.experiments.paper.models import Training
from coldfuse.experiments.paper.plan import Wanted
from coldfuse.experiments.paper.protocol import Share
from coldfuse.experiments.paper.values import Protocol, Sizes
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.compute import compute_threads, pick_device
from coldfuse.training.encoding import encode_all, tokenize
from coldfuse.training.intake import find_intake
from coldfuse.training.job import FineTuned
from coldfuse.training.loading import load_body, load_tokenizer
from coldfuse.training.model import shared_tensors


def known(shop: Workshop, wanted: Wanted) -> float | None:
    """Return the accuracy that was found for a score; None where it was not counted yet."""
    path = _path(shop, wanted)
    return float(json.loads(path.read_bytes())["accuracy"]) if path.exists() else None


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
        for item in wanted:
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
    data, task = _examples(shop, wanted), shop.tasks[wanted.set]
    training = Training(epochs=scored_epochs(shop.sizes, wanted.protocol), seed=wanted.seed, round=0)
    validation = data if wanted.protocol == "few-shot" else task.validation
    done = train(shop, folder, Lesson(train=data, validation=validation, training=training))
    with compute_threads(shop.threads):
        return tested(folder, done, task.test, max_length=shop.sizes.max_length)


def tested(base: Path, done: FineTuned, test: TextDataset, *, max_length: int) -> float:
    """Return the accuracy of a fine-tuned model with its private head.

    Args:
        base: Folder that it was tuned from.
        done: What came of the training.
        test: What it is tested on.
        max_length: Tokens of a text that are read.
    """
    device = pick_device("auto")
    body, tokenizer = load_body(base).to(device), load_tokenizer(base)
    _take(shared_tensors(body, open_checkpoint(base).schema.keys()), done.tensors)
    texts = tokenize(tokenizer, test, find_intake(body, tokenizer, max_length=max_length))
    return head_of(done).to(device).accuracy(encode_all(body, texts), torch.tensor(test.labels, device=device))


def _take(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(values[name])


def _examples(shop: Workshop, wanted: Wanted) -> TextDataset:
    task: Task = shop.tasks[wanted.set]
    share = scored_share(shop.sizes, wanted)
    count = min(share.count, len(task.train))
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
