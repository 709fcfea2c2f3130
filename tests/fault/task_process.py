"""A training run of any task in a process of its own, which waits after each step for leave to go on."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

from edited import edit_rows
from tiny_pictures import write_captions, write_pictures
from tiny_texts import rows_of, write_json_lines

from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import TrainingJob, TrainingProgress, TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest

SETTINGS = TrainingSettings(
    num_epochs=2, batch_size=8, learning_rate=3e-3, max_length=32, threads=1, device="cpu", checkpoint_every_s=0.0
)


def write_data(folder: Path, task: str) -> Path:
    """Write private data of a task: proverbs, or coloured pictures."""
    if task == "image-classification":
        return write_pictures(folder, num=18)
    if task == "contrastive-image-text":
        return write_captions(folder, num=36)
    if task == "edit":
        more = [{"kind": "edit", "prompt": f"Number {number} is", "answer": "wise"} for number in range(30)]
        return write_json_lines(folder.with_suffix(".jsonl"), edit_rows() + more)
    return write_json_lines(folder.with_suffix(".jsonl"), rows_of(task))


def job_of(base_dir: Path, line: str) -> TrainingJob:
    """Return a training of a task."""
    task = find_task(line)
    data = write_data(base_dir.parent / task.name, task.name)
    train, validation = set_apart(task, task.read(DataRequest(data=data)), seed=0)
    names = open_checkpoint(base_dir).schema.keys()
    return TrainingJob(
        base_dir=base_dir, base_digest="0" * 64, schema_names=names, round=1, train=train, validation=validation,
        task=task,
    )  # fmt: skip


def train(base_dir: Path, line: str, checkpoint: Path, steps: Connection) -> None:
    """Train, and send the number of each step that is done."""

    def wait(event: TrainingProgress) -> None:
        if event.phase == "train":
            steps.send(event.step)
            steps.recv()

    fine_tune(job_of(base_dir, line), SETTINGS, checkpoint=checkpoint, progress=wait)
