"""What a model's files lack, and transformers draws at random without a word: none of it may pass for the model.

A pooler is none of that: what it makes of a text nobody asks for, and many files go without. Nor is a task's new head,
which is not the body's.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from torch import nn

from coldfuse.core.words import plural
from coldfuse.errors import UserInputError

_LOG = logging.getLogger(__name__)
_MOST = 0.5
"""Share of a body's elements that may be lacking where it is trained: of more, the files are another model's."""


def require_found(
    model_dir: Path, body: nn.Module, missing: Collection[str], *, unexpected: Collection[str], may_lack: bool
) -> None:
    """Refuse a body that is not in the files, or say what of it is not.

    Args:
        model_dir: The model's folder.
        body: The body, as it was loaded.
        missing: Names of the body's tensors that no file has.
        unexpected: Names in the files that transformers knows no place for.
        may_lack: True where a smaller part may be lacking, as every node trains one of its own; it is logged.

    Raises:
        UserInputError: Something is lacking that decides what the body makes of a text.
    """
    sizes = {name: parameter.numel() for name, parameter in body.named_parameters() if not _is_pooler(name)}
    lacking = sorted(sizes.keys() & set(missing))
    if not lacking:
        return
    other = f"; they have others, such as {min(unexpected)}" if unexpected else ""
    said = (
        f"{model_dir}: its files lack {len(lacking)} of {plural(len(sizes), 'tensor')} of {type(body).__name__}, such "
        f"as {lacking[0]}{other}"
    )
    if not may_lack or sum(map(sizes.__getitem__, lacking)) > _MOST * sum(sizes.values()):
        raise UserInputError(
            f"{said}; what is lacking would be random numbers. Expected a model as save_pretrained writes it, with the "
            "names that transformers gives its tensors"
        )
    _LOG.warning("%s; those begin as random numbers, and do not travel", said)


def _is_pooler(name: str) -> bool:
    return any(part.startswith("pooler") for part in name.split("."))
