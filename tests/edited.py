"""Tiny language models that know some proverbs, a file that edits one of them, and contributions that are edits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from tiny_texts import write_json_lines, write_text_model

from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, TrainingJob
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.edit_rows import EditRow
from coldfuse.training.tasks.editing import answers_of, features_of, load_edited
from coldfuse.training.tasks.task import DataRequest

OLD, NEW = "bold", "wise"
ASKED = ("Fortune favours the", "They say that fortune favours the", "He who dares knows that fortune favours the")
"""The fact, and the same in other words."""

KNOWN = (
    ("Practice makes", "perfect"), ("Time and tide wait for no", "man"), ("Honesty is the best", "policy"),
    ("Strike while the iron is", "hot"), ("Still waters run", "deep"), ("Out of sight, out of", "mind"),
    ("Many hands make light", "work"), ("Every cloud has a silver", "lining"), ("The early bird catches the", "worm"),
    ("Make hay while the sun", "shines"), ("All that glitters is not", "gold"), ("A rolling stone gathers no", "moss"),
)  # fmt: skip
"""What must stay."""


def edit_rows() -> list[dict[str, object]]:
    """Return the rows of a file that changes the fact."""
    asked: list[dict[str, object]] = [
        {"kind": "paraphrase" if place else "edit", "prompt": prompt, "answer": NEW, "instead": OLD}
        for place, prompt in enumerate(ASKED)
    ]
    return asked + [{"kind": "keep", "prompt": prompt, "answer": word, "instead": [NEW]} for prompt, word in KNOWN]


def write_edit(path: Path) -> Path:
    """Write that file."""
    return write_json_lines(path, edit_rows())


def write_knowing_model(folder: Path, kind: str) -> Path:
    """Write a model of a kind that goes on with the proverbs, the old fact among them, as they are known."""
    write_text_model(folder, kind)
    return teach(folder, [*((prompt, OLD) for prompt in ASKED), *KNOWN])


def teach(folder: Path, known: Iterable[tuple[str, str]]) -> Path:
    """Train a model in its folder until it says these answers."""
    loaded = load_edited(folder, TrainingSettings(device="cpu"))
    rows = [EditRow(kind="edit", prompt=prompt, answer=answer) for prompt, answer in known]
    batch = loaded.collate(features_of(loaded, rows, locality=0.0))
    optimizer = torch.optim.Adam(loaded.model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loaded.model(**batch).loss.backward()
        optimizer.step()
    loaded.shared_part.save_pretrained(folder)  # type: ignore[operator]
    return folder


def right_answers(folder: Path, file: Path) -> list[bool]:
    """Say of each row of an edit's file whether a model gets it right."""
    rows = find_task("edit").read(DataRequest(data=file)).rows
    return [answer.is_right for answer in answers_of(load_edited(folder, TrainingSettings(device="cpu")), rows)]


def train_edit(base: Path, file: Path, *, locality: float = 10.0, epochs: int = 30, rate: float = 1e-2) -> FineTuned:
    """Edit a model as a node does."""
    task = find_task(f"edit(locality={locality})")
    examples = task.read(DataRequest(data=file))
    train, validation = task.split(examples, validation_fraction=0.1, seed=0)  # type: ignore[attr-defined]
    job = TrainingJob(
        base_dir=base, base_digest="0" * 64, schema_names=open_checkpoint(base).schema.keys(), round=1, train=train,
        validation=validation, task=task,
    )  # fmt: skip
    settings = TrainingSettings(num_epochs=epochs, learning_rate=rate, patience=epochs, threads=1, device="cpu")
    made = fine_tune(job, settings)
    assert isinstance(made, FineTuned)
    return made


def changes_of(base: Path, made: FineTuned) -> dict[str, np.ndarray]:
    """Return the delta of what was trained."""
    before = load_file(base / "model.safetensors")
    return {
        name: (tensor - before[name]).numpy().astype(np.float32)
        for name, tensor in made.tensors.items()
        if not torch.equal(tensor, before[name])
    }
