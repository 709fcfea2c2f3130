"""The frozen body of a federation that shares a module: a node has it from its own disk, or from the hub's cache."""

from __future__ import annotations

from pathlib import Path

from coldfuse.contributor.events import Say
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import WorkFolder
from coldfuse.core.shared_module import SharedModule
from coldfuse.errors import UserInputError
from coldfuse.training.sharing.body import find_body, verify_body

WHOLE = "full"
"""Way of training of who has said nothing."""

_NOTE = "body.json"
"""File in the node's folder that notes which body was verified."""


def frozen_body(settings: NodeSettings, module: SharedModule, work: WorkFolder, say: Say) -> Path:
    """Return the folder of a federation's body, verified; it is read whole once, and again when a file has changed.

    Raises:
        UserInputError: It is not on this machine, or another model; or something else is to be trained.
    """
    if settings.training.way != WHOLE:
        raise UserInputError(
            f"--train {settings.training.way}: this federation shares {module.share}, and that alone is trained; leave "
            "--train out"
        )
    folder = find_body(module.body, settings.body)
    verify_body(
        folder, module.body, note=work.path.parent / _NOTE, tell=lambda line: say("verifying", None, line)
    )  # fmt: skip
    return folder
