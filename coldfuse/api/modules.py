"""A module that a federation shares, in a body of the user's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldfuse.extras import requiring

if TYPE_CHECKING:
    from coldfuse.attached.own import TorchModule


def load_module(model: TorchModule, folder: str | os.PathLike[str]) -> Any:  # a PeftModel; PEFT is untyped
    """Put the module of a release into a model with its body, to be trained or used; the body is frozen.

    Args:
        model: The body, or a task's model around it; it is changed in place.
        folder: The release's folder, as `fetch` wrote it.

    Returns:
        PEFT's model; the very model where parts of the body are shared.

    Raises:
        UserInputError: The folder is no module's, or PEFT cannot put it into this model.
        SchemaMismatchError: The model has another body.
    """
    with requiring("load_module", "contributor", at_once=("torch", "peft")):
        from coldfuse.adapters.loading import load_module as load  # noqa: PLC0415 - torch and PEFT come with it

        return load(model, Path(folder))
