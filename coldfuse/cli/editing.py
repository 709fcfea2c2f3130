"""What `--edit` asks for, as the options of a contribution."""

from __future__ import annotations

import re
from dataclasses import replace

import typer

from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.errors import UserInputError
from coldfuse.training.tasks import DEFAULT_TASK, find_task

EPOCHS, PATIENCE = 30, 5
"""Epochs of an edit, which are a step or two each, and those without a better score after which it ends."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,49}")


def with_edit(options: ContributeOptions) -> ContributeOptions:
    """Return the options with the edit's file as data; as they are where there is no edit.

    Raises:
        UserInputError: It has no name that can be one.
        typer.BadParameter: Another kind of contribution is asked for, too.
    """
    if options.edit is None:
        return options
    name, equals, file = options.edit.partition("=")
    if not _NAME.fullmatch(name) or (equals and not file):
        raise UserInputError(
            f"--edit {options.edit[:80]!r}: expected NAME=FILE, with a name of at most 50 lower-case letters, digits, "
            "'.', '_' and '-'"
        )
    if options.model is not None:
        if equals:
            raise typer.BadParameter("--edit NAME=FILE trains on the file; beside --model give the NAME alone")
        return options
    if not equals:
        raise typer.BadParameter(f"--edit {name}: give {name}=FILE to train on, or --model FOLDER of what was edited")
    if options.data:
        raise typer.BadParameter("give --data FILE or --edit NAME=FILE, not both")
    task = "edit" if options.task == DEFAULT_TASK else options.task
    if find_task(task).name != "edit":
        raise typer.BadParameter("--edit trains the task edit; leave --task out")
    rounds = 1 if options.rounds is None and not options.once else options.rounds
    return replace(options, data=[file], task=task, edit=name, rounds=rounds)
