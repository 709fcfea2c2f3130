"""One federation of contributors of different kinds: full, LoRA, BitFit, masked language modelling, a model folder.

    python tests/benchmarks/kinds.py BASE_FOLDER DATA_FOLDER [--examples 200] [--rounds 2] [--seeds 3]

DATA_FOLDER has a folder a task, each with train and test, as `coldfuse contribute --data` takes them. Every release is
scored by linear probes of the tasks whose contributors have labels; all in one process, rounds fused by the mean.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1]))

from fault.rounds import make_federation_of
from task_rounds import aggregating

import coldfuse
from coldfuse.consumer import fetch
from coldfuse.contributor.node import Node
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import NodeFolder
from coldfuse.data.dataset import TextDataset, split
from coldfuse.data.reading import read_dataset
from coldfuse.evaluation.probe import linear_probes
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.training.settings import TrainingSettings, line_of_way
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest

KINDS = {  # name: task's data, way, learning rate
    "full": ("trec_coarse", "full", 3e-4),
    "lora": ("snips", "lora(rank=16, alpha=16)", 2e-3),
    "bias": ("sst2", "bias", 2e-3),
}
TEXTS, FOLDER = "ag_news", "tweet_emotion"
NUM_TEXTS = 40  # the head of masked language modelling is as wide as the vocabulary, and costs what the others do
SEEN = (*(kind[0] for kind in KINDS.values()), FOLDER)
MAX_LENGTH = 32


def sample(data: TextDataset, count: int, seed: int) -> TextDataset:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    return data.take(order)


def read(data: Path, task: str, part: str) -> TextDataset:
    return read_dataset(next((data / task).glob(f"{part}.*")))


def settings_of(seed: int, way: str, learning_rate: float) -> TrainingSettings:
    return TrainingSettings(
        num_epochs=2, batch_size=16, learning_rate=learning_rate, max_length=MAX_LENGTH, threads=1, device="cpu",
        seed=seed, way=line_of_way(way), patience=2,
    )  # fmt: skip


def node_of(federation: Federation, name: str, settings: NodeSettings, folder: Path) -> Node:
    import threading

    return Node(settings, NodeFolder(folder / name), StoreGateway(federation), lambda _: None, threading.Event())


def make_nodes(federation: Federation, data: Path, folder: Path, *, examples: int, seed: int) -> dict[str, Node]:
    nodes = {}
    for name, (task, way, rate) in KINDS.items():
        train, held_out = split(sample(read(data, task, "train"), examples, seed), validation_fraction=0.2, seed=seed)
        settings = NodeSettings(
            name=name, train=train, validation=held_out, training=settings_of(seed, way, rate), send_anyway=True
        )
        nodes[name] = node_of(federation, name, settings, folder)
    path = folder / "texts.txt"
    path.write_text("\n".join(sample(read(data, TEXTS, "train"), NUM_TEXTS, seed).texts))
    task = find_task("fill-mask")
    train, held_out = set_apart(task, task.read(DataRequest(data=path)), seed=seed)
    settings = NodeSettings(
        name="texts", train=train, validation=held_out, training=settings_of(seed, "full", 1e-4), task=task,
        send_anyway=True,
    )  # fmt: skip
    return nodes | {"texts": node_of(federation, "texts", settings, folder)}


def train_elsewhere(release: Path, data: TextDataset, out: Path, *, seed: int) -> None:
    """Fine-tune as somebody who has never heard of coldfuse, and leave a model folder."""
    torch.manual_seed(seed)
    model, tokenizer = AutoModel.from_pretrained(release), AutoTokenizer.from_pretrained(release)
    head = nn.Linear(model.config.hidden_size, len(data.label_names))
    optimizer = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-4)
    for _ in range(2):
        for start in range(0, len(data), 16):
            batch = tokenizer(
                list(data.texts[start : start + 16]), padding=True, truncation=True, max_length=MAX_LENGTH,
                return_tensors="pt",
            )  # fmt: skip
            states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            logits = head((states * mask).sum(1) / mask.sum(1))
            nn.functional.cross_entropy(logits, torch.tensor(data.labels[start : start + 16])).backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(out)


def score(release: Path, data: Path, examples: int) -> dict[str, float]:
    """Probe a release; the probes' data are the same for every release and seed, and are no contributor's test."""
    tasks = [(sample(read(data, t, "train"), examples, 99), sample(read(data, t, "test"), examples, 99)) for t in SEEN]
    found = linear_probes(release, tasks, max_length=MAX_LENGTH, threads=1)
    return {task: 100 * result.accuracy for task, result in zip(SEEN, found, strict=True)}


def say_scores(number: int, scores: dict[str, float]) -> None:
    tasks = ", ".join(f"{task} {value:.1f}" for task, value in scores.items())
    print(f"  release {number}: seen mean {sum(scores.values()) / len(scores):.2f}  ({tasks})", flush=True)


def run(base: Path, data: Path, *, examples: int, rounds: int, seed: int) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        federation = make_federation_of(base, root / "store", quorum=len(KINDS) + 2)
        nodes = make_nodes(federation, data, root, examples=examples, seed=seed)
        elsewhere = sample(read(data, FOLDER, "train"), examples, seed)
        fetch(StoreGateway(federation), root / "release")
        say_scores(0, score(root / "release", data, examples))
        with aggregating(federation):
            for number in range(1, rounds + 1):
                for name, node in nodes.items():
                    node.contribute(wait_for_release=False)
                    print(f"    {name} has contributed", flush=True)
                train_elsewhere(root / "release", elsewhere, root / f"model-{number}", seed=seed)
                coldfuse.connect(str(root / "store")).contribute(
                    root / f"model-{number}", num_examples=examples, name="folder", base=root / "release", wait=False
                )
                while federation.latest().release < number:
                    time.sleep(0.5)
                assert len(federation.latest().contributions) == len(nodes) + 1
                fetch(StoreGateway(federation), root / "release")
                say_scores(number, score(root / "release", data, examples))
    print(f"  {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    for seed in range(given.seeds):
        print(f"seed {seed}", flush=True)
        run(given.base, given.data, examples=given.examples, rounds=given.rounds, seed=seed)


if __name__ == "__main__":
    main()
