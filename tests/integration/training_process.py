"""A training run in a process of its own, slow enough to be killed in the middle: prints each step as it is done."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from coldfuse.data.dataset import TextDataset, split
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import TrainingJob, TrainingProgress, TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import split_at_random
from coldfuse.training.tasks.targets import TextsWithTargets

SETTINGS = TrainingSettings(
    num_epochs=3, batch_size=8, learning_rate=3e-3, threads=1, device="cpu", checkpoint_every_s=0.0, seed=5
)


def reviews(num: int) -> TextDataset:
    """Reviews whose one telling word gives the class away."""
    words = (("bad", "awful", "poor", "dull"), ("good", "great", "fine", "lovely"))
    labels = tuple(index % 2 for index in range(num))
    texts = tuple(f"the film was {words[label][index % 4]} {index}" for index, label in enumerate(labels))
    return TextDataset(texts=texts, labels=labels, label_names=("negative", "positive"))


def rated(num: int) -> TextsWithTargets:
    """The same texts with a number each."""
    data = reviews(num)
    return TextsWithTargets(texts=data.texts, targets=tuple(map(float, data.labels)))


def job(base_dir: Path, *, number: int = 1, task: str = "text-classification") -> TrainingJob:
    found = find_task(task)
    train, validation = split(reviews(80), validation_fraction=0.2, seed=0)
    if task == "regression":
        train, validation = split_at_random(rated(80), seed=0)
    return TrainingJob(
        base_dir=base_dir,
        base_digest="0" * 64,
        schema_names=open_checkpoint(base_dir).schema.keys(),
        round=number,
        train=train,
        validation=validation,
        task=found,
    )


def print_slowly(event: TrainingProgress) -> None:
    print(event.phase, event.step, flush=True)
    time.sleep(0.05)


if __name__ == "__main__":
    task = sys.argv.pop().removeprefix("task=") if sys.argv[-1].startswith("task=") else "text-classification"
    this, chosen = job(Path(sys.argv[1]), task=task), SETTINGS
    if len(sys.argv) > 3:  # a folder for what lasts, a way, and objectives
        this = replace(this, folder=Path(sys.argv[3]))
        chosen = replace(chosen, way=sys.argv[4], objectives=tuple(sys.argv[5:]))
    fine_tune(this, chosen, checkpoint=Path(sys.argv[2]), progress=print_slowly)
