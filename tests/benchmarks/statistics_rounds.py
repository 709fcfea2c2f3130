"""Rounds whose method looks at statistics, beside rounds that fuse by the mean, on real tasks with private heads.

    python tests/benchmarks/statistics_rounds.py DATA --folder /tmp/statistics --base MODEL --seeds 0,1,2

DATA holds a folder a task, each with train.parquet, validation.parquet and test.parquet. Every task is a contributor:
it fine-tunes the base as a node does, computes its Gram matrices and its Fisher information, and codes them to travel.
Then each method has a federation of its own, in a folder, to which all of them contribute the same deltas, with the
statistics that the method asks for; an aggregator screens and fuses one round. A release is scored with each
contributor's own head on its own test set. Prints JSON lines: what each contributor sent, and the scores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.config import prepare_training
from coldfuse.consumer import fetch
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.serialization import blob_digest
from coldfuse.core.statistics import ContributedStatistics, StatisticsRule
from coldfuse.data.dataset import TextDataset
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.recipes import read_recipe
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.tensors.files import LocalFile
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.training.delta import write_delta
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, TrainingJob, TrainingSettings
from coldfuse.training.model import shared_tensors
from coldfuse.training.node_statistics import Asked, make_statistics, rebuilt
from coldfuse.training.task_statistics import set_tensors
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.task import DataRequest

METHODS = ("mean", "regmean(off_diagonal=0.1)", "regmean(off_diagonal=0.9)", "fisher")


@dataclass(frozen=True, kw_only=True)
class Party:
    """A contributor after its training."""

    task: str
    job: TrainingJob
    made: FineTuned
    delta: tuple[Blob, Path]
    statistics: Mapping[str, tuple[ContributedStatistics, Path]]
    test: TextDataset


def main() -> None:
    args = parse()
    prepare_training()
    for seed in map(int, args.seeds.split(",")):
        run(args, seed)


def run(args: argparse.Namespace, seed: int) -> None:
    root = args.folder / f"seed-{seed}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    settings = TrainingSettings(
        num_epochs=args.epochs, learning_rate=args.learning_rate, max_length=48, seed=seed, threads=1, device="cpu"
    )
    parties = [train(args, root, task, settings, seed) for task in args.tasks.split(",")]
    say(seed=seed, model="base", scores={p.task: round(p.made.score_before, 4) for p in parties}, of="validation")
    say(seed=seed, model="single", scores={p.task: score(p, settings, None) for p in parties})
    for method in METHODS:
        began_s = time.monotonic()
        folder = fused(args, root / method.replace("(", "-").replace(")", ""), method, parties)
        took_s = time.monotonic() - began_s
        scores = {p.task: score(p, settings, folder) for p in parties}
        say(seed=seed, model=method, round_s=round(took_s, 1), scores=scores)
    shutil.rmtree(root)


def train(args: argparse.Namespace, root: Path, name: str, settings: TrainingSettings, seed: int) -> Party:
    task = find_task("text-classification")
    sizes = {"train": args.examples, "validation": args.validation, "test": args.test}
    data = {}
    for part, size in sizes.items():
        whole = task.read(DataRequest(data=args.data / name / f"{part}.parquet"), like=data.get("train"))
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed)).tolist()
        data[part] = whole.take(order[:size])
    base = open_checkpoint(args.base)
    digest = base.digest()
    job = TrainingJob(
        base_dir=args.base, base_digest=digest, schema_names=base.schema.keys(), round=1, train=data["train"],
        validation=data["validation"], task=task,
    )  # fmt: skip
    began_s = time.monotonic()
    made = fine_tune(job, settings)
    assert isinstance(made, FineTuned)
    trained_s = time.monotonic() - began_s
    path = root / f"{name}.delta"
    delta = write_delta(path, base, made.shared(), encoding="F32", base_digest=digest)
    found, facts = {}, {}
    for kind in ("gram", "fisher"):
        began_s = time.monotonic()
        file = root / f"{name}.{kind}"
        asked = Asked(kind=kind, num_examples=getattr(args, f"{kind}_examples"))
        given = make_statistics(
            job, settings, made, asked=asked, delta=delta, path=file, tell=lambda _sentence, _done: None
        )
        found[kind] = given, file
        facts[kind] = {
            "bytes": given.file.size_bytes, "error": given.error, "coding": given.coding, "estimator": given.estimator,
            "seconds": round(time.monotonic() - began_s, 1),
        }  # fmt: skip
    say(
        seed=seed, party=name, trained_s=round(trained_s, 1), delta_bytes=delta.size_bytes, examples=made.num_examples,
        before=made.score_before, after=made.score_after, statistics=facts,
    )  # fmt: skip
    return Party(task=name, job=job, made=made, delta=(delta, path), statistics=found, test=data["test"])


def fused(args: argparse.Namespace, root: Path, method: str, parties: list[Party]) -> Path:
    """Contribute to a federation of this method, have an aggregator lead the round, and fetch what came of it."""
    rule = StatisticsRule.model_validate({"kind": read_recipe(method).statistic or "none"})
    rules = {"quorum": len(parties), "deadline_s": 3600.0}
    store = LocalStore(root / "store")
    federation = create_federation(
        store, name="seven", base=args.base, origin="base", method=method, rules=rules, statistics=rule
    )
    settings = AggregatorSettings(rounds=1, poll_s=0.05, lease_ttl_s=60.0)
    with StoreGateway(federation) as gateway:
        for _, event in serve_rounds(federation, ThreadExecutor(1), settings, stop=threading.Event()):
            if event.event == "opened":
                for party in parties:
                    contribute(gateway, party, rule)
        release = gateway.release()
        assert len(release.contributions) == len(parties), federation.journal(1).state().rejected
        assert {c.statistics for c in release.contributions} == {rule.wanted}
        fetch(gateway, root / "release")
    return root / "release"


def contribute(gateway: StoreGateway, party: Party, rule: StatisticsRule) -> None:
    status = gateway.status()
    given = party.statistics[rule.wanted][0] if rule.wanted else None
    files = [party.delta] + ([(given.file, party.statistics[rule.wanted][1])] if given and rule.wanted else [])
    for blob, path in files:
        with LocalFile(path).open() as file:
            gateway.upload(blob, file.read_into)
    gateway.commit(ContributionManifest(
        federation=status.federation, contributor=party.task.replace("_", "-"), round=status.round.number,
        base_release=0, base_digest=party.job.base_digest, encoding="F32", num_examples=party.made.num_examples,
        num_steps=party.made.num_steps, delta=party.delta[0], delta_digest=blob_digest(party.delta[0]),
        statistics=given,
    ))  # fmt: skip


def score(party: Party, settings: TrainingSettings, release: Path | None) -> float:
    """Score a release, or the contributor's own model, with the contributor's head on its test set."""
    loaded = rebuilt(party.job, settings, party.made)
    if release is not None:
        files = open_checkpoint(release)
        own = shared_tensors(loaded.shared_part, party.job.schema_names)
        with TensorReader(files.files.values()) as reader:
            values = {n: torch.from_numpy(reader.floats(n)).reshape(t.shape).to(t) for n, t in own.items()}
        set_tensors(own, values)
    loaded.model.eval()
    with torch.no_grad():
        return round(party.job.task.score(loaded, party.test, party.job.task.encode(loaded, party.test)), 4)


def say(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--tasks", default="snli,mrpc,cola,sick,trec_coarse,subj,sst2")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--gram-examples", type=int, default=256)
    parser.add_argument("--fisher-examples", type=int, default=256)
    parser.add_argument("--validation", type=int, default=200)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    return parser.parse_args()


if __name__ == "__main__":
    main()
