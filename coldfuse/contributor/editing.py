"""How a node trains an edit where its user says nothing else."""

from __future__ import annotations

from coldfuse.contributor.settings import NodeSettings
from coldfuse.core.given_edit import GivenEdit
from coldfuse.errors import UserInputError
from coldfuse.tensors.encodings import Encoding
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import find_task
from coldfuse.training.tasks.splitting import set_apart
from coldfuse.training.tasks.task import DataRequest

TASK = "edit"
"""Task of an edit."""

EPOCHS, PATIENCE = 30, 5
"""Epochs of an edit, which are a step or two each, and those without a better score after which it ends."""


def edit_settings(
    given: GivenEdit, name: str, *, training: TrainingSettings | None, encoding: Encoding, is_named: bool
) -> NodeSettings:
    """Return what a node contributes of an edit's file.

    Args:
        given: The edit, with its file.
        name: Name of the contributor.
        training: Settings of the fine-tuning; None: those of an edit.
        encoding: Dtype in which the delta travels.
        is_named: Whether the contributor agrees to be named.

    Raises:
        UserInputError: The file is none of an edit, or there is none.
    """
    if given.file is None:
        raise UserInputError(f"edit {given.name!r}: expected NAME=FILE, as there is no model that was edited elsewhere")
    task = find_task(TASK)
    training = training or TrainingSettings(num_epochs=EPOCHS, patience=PATIENCE)
    train, held_out = set_apart(task, task.read(DataRequest(data=given.file)), seed=training.seed)
    return NodeSettings(
        name=name, train=train, validation=held_out, training=training, task=task, encoding=encoding,
        is_named=is_named, edit=given.name,
    )  # fmt: skip
