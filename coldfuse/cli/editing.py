"""What `--edit` asks for, as the options of a contribution."""

from __future__ import annotations

from dataclasses import replace

import typer

from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.contributor.editing import TASK
from coldfuse.core.given_edit import GivenEdit
from coldfuse.training.tasks import DEFAULT_TASK, find_task


def with_edit(options: ContributeOptions) -> ContributeOptions:
    """Return the options with the edit's file as data; as they are where there is no edit.

    Raises:
        UserInputError: It has no name that can be one.
        typer.BadParameter: Another kind of contribution is asked for, too.
    """
    if options.edit is None:
        return options
    given = GivenEdit.parse(options.edit, what="--edit")
    if options.model is not None:
        if given.file is not None:
            raise typer.BadParameter("--edit NAME=FILE trains on the file; beside --model give the NAME alone")
        return options
    if given.file is None:
        raise typer.BadParameter(
            f"--edit {given.name}: give {given.name}=FILE to train on, or --model FOLDER of what was edited"
        )
    if options.data:
        raise typer.BadParameter("give --data FILE or --edit NAME=FILE, not both")
    task = TASK if options.task == DEFAULT_TASK else options.task
    if find_task(task).name != TASK:
        raise typer.BadParameter("--edit trains the task edit; leave --task out")
    rounds = 1 if options.rounds is None and not options.once else options.rounds
    return replace(options, data=[given.file], task=task, edit=given.name, rounds=rounds)
