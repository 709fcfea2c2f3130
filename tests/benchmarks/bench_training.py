"""How fast does a node train, and in how much memory, beside a plain Trainer script and a bare loop of torch?

    pytest -m benchmark -s tests/benchmarks/bench_training.py
    python tests/benchmarks/bench_training.py --data train.parquet --base MODEL [--before CHECKOUT] [--runs 5]

Measures, never decides: numbers go to `results/`. Every measurement is a process of its own; the kinds take turns, so
that whatever else the machine does meets all of them. Counted are tokens without padding, from the end of the first
step to the end of the last, by the clock and by the processor's time of the process (which other processes disturb
less), and the largest memory of the process. `--before` measures another checkout of coldfuse as well.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]
KINDS = ("node", "trainer", "loop")
BATCH, LENGTH, LEARNING_RATE, SEED = 32, 128, 5e-5, 0


class Steps:
    """Notes when each step ended, by the clock and by the processor."""

    def __init__(self) -> None:
        self.clock: list[float] = []
        self.processor: list[float] = []

    def note(self) -> None:
        self.clock.append(time.perf_counter())
        self.processor.append(time.process_time())

    def figures(self, num_tokens: int) -> dict[str, float]:
        share = (len(self.clock) - 1) / len(self.clock)  # the first step only starts the clock
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {
            "tokens_a_s": num_tokens * share / (self.clock[-1] - self.clock[0]),
            "tokens_a_cpu_s": num_tokens * share / (self.processor[-1] - self.processor[0]),
            "peak_mib": peak,
        }


def read(data: Path, num: int):
    from coldfuse.data.dataset import split
    from coldfuse.data.reading import read_dataset

    return split(read_dataset(data).take(range(num)), seed=SEED)


def count_tokens(base: Path, texts: Sequence[str]) -> int:
    from transformers import AutoTokenizer

    return sum(map(len, AutoTokenizer.from_pretrained(base)(list(texts), truncation=True, max_length=LENGTH).input_ids))


def node(base: Path, data: Path, num: int) -> dict[str, float]:
    """What `coldfuse contribute` does; in another checkout what that one does."""
    from coldfuse.tensors.checkpoint import open_checkpoint
    from coldfuse.training.fine_tuning import fine_tune
    from coldfuse.training.job import TrainingJob, TrainingSettings

    train, validation = read(data, num)
    settings = TrainingSettings(num_epochs=1, batch_size=BATCH, threads=1, device="cpu", checkpoint_every_s=1e6)
    names = open_checkpoint(base).schema.keys()
    job = TrainingJob(
        base_dir=base, base_digest="0" * 64, schema_names=names, round=1, train=train, validation=validation
    )
    steps = Steps()
    fine_tune(job, settings, progress=lambda now: steps.note() if now.phase == "train" else None)
    return steps.figures(count_tokens(base, train.texts))


def trainer(base: Path, data: Path, num: int) -> dict[str, float]:
    """The script that transformers' documentation shows."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    torch.set_num_threads(1)
    train, _ = read(data, num)
    tokenizer, steps = AutoTokenizer.from_pretrained(base), Steps()
    rows = [
        {**tokenizer(text, truncation=True, max_length=LENGTH), "labels": label}
        for text, label in zip(train.texts, train.labels, strict=True)
    ]

    class Note(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            steps.note()

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, num_train_epochs=1, use_cpu=True,
        learning_rate=LEARNING_RATE, report_to="none", save_strategy="no", disable_tqdm=True, seed=SEED,
        dataloader_pin_memory=False,
    )  # fmt: skip
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=train.num_classes)
    Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[Note()],
    ).train()  # fmt: skip
    return steps.figures(count_tokens(base, train.texts))


def loop(base: Path, data: Path, num: int) -> dict[str, float]:
    """The shortest loop that trains: batches in random order, padded to their longest text."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    train, _ = read(data, num)
    tokenizer, steps = AutoTokenizer.from_pretrained(base), Steps()
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=train.num_classes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    order = torch.randperm(len(train)).tolist()
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        texts = [train.texts[i] for i in some]
        batch = tokenizer(texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
        model(**batch, labels=torch.tensor([train.labels[i] for i in some])).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps.note()
    return steps.figures(count_tokens(base, train.texts))


RUNNERS: dict[str, Callable[[Path, Path, int], dict[str, float]]] = {"node": node, "trainer": trainer, "loop": loop}


def measure(kind: str, base: Path, data: Path, num: int, *, checkout: Path | None = None) -> dict[str, float]:
    """Measure one kind in a process of its own."""
    root = checkout or Path(__file__).parents[2]
    command = [sys.executable, __file__, "--kind", kind, "--base", base, "--data", data, "--examples", num]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(base: Path, data: Path, *, num: int, runs: int, before: Path | None = None) -> str:
    """Measure all kinds in turn, and return a table of medians with the smallest and largest value."""
    ways = {kind: (kind, None) for kind in KINDS} | ({"node before": ("node", before)} if before else {})
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, (kind, checkout) in ways.items():
            found[name].append(measure(kind, base, data, num, checkout=checkout))
    lines = ["| | tokens/s | tokens a CPU second | peak MiB |", "|---|---|---|---|"]
    for name, figures in found.items():
        cells = [
            f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"
            for key in ("tokens_a_s", "tokens_a_cpu_s", "peak_mib")
            if (values := [figure[key] for figure in figures])
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def bench_training_beside_a_plain_trainer_and_a_bare_loop(tmp_path):
    from reviews import write_reviews
    from tiny_model import write_tiny_model

    base = write_tiny_model(tmp_path / "base", hidden_size=128, num_layers=4)
    print(compare(base, write_reviews(tmp_path / "reviews.csv", num=1200), num=1200, runs=3))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--kind", choices=KINDS)
    given = parser.parse_args()
    if given.kind:
        print(json.dumps(RUNNERS[given.kind](given.base, given.data, given.examples)))
    else:
        print(compare(given.base, given.data, num=given.examples, runs=given.runs, before=given.before))
