"""What `Federation.contribute` is asked for, and who does it: a model is sent, an edit's file is trained on first."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.api.bars import Watching, watching
from coldfuse.api.recognising import find_base, require_fetched
from coldfuse.api.said import check_count, check_encoding
from coldfuse.api.values import Acknowledgement
from coldfuse.core.given_edit import GivenEdit
from coldfuse.core.names import Identity
from coldfuse.errors import UserInputError
from coldfuse.extras import requiring
from coldfuse.gateway import Gateway

if TYPE_CHECKING:
    from coldfuse.api.models import Model
    from coldfuse.naming.sharing import Share
    from coldfuse.tensors.encodings import Encoding
    from coldfuse.training.settings import TrainingSettings

_KEPT = Path(".coldfuse")
"""Folder of the nodes that work in this folder, as the command has it."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is contributed; see `Federation.contribute`."""

    model: Model | None
    """Fine-tuned model; None where an edit's file is trained on."""
    num_examples: int | None
    """Distinct examples that it was trained on."""
    edit: str | None
    """`NAME` of the edit that it is, or `NAME=FILE` to train on."""
    training: TrainingSettings | None
    """Settings of that training."""
    base: str | os.PathLike[str] | None
    """Folder of the release that was fine-tuned."""
    release: int | None
    """Number of that release."""
    share: Share
    """Patterns of what is shared."""
    encoding: Encoding
    """Dtype in which the delta travels."""
    statistics: str | os.PathLike[str] | None
    """File of the model's statistics."""
    wait: bool
    """Whether the verdict is waited for."""
    timeout_s: float | None
    """Seconds after which waiting ends."""

    def edit_given(self) -> GivenEdit | None:
        """Return the edit that was given; None: it is none.

        Raises:
            UserInputError: What was given does not go together.
        """
        check_encoding(self.encoding)
        if self.edit is not None and not isinstance(self.edit, str):
            raise UserInputError(f"edit={str(self.edit)[:80]}: expected text, 'NAME' or 'NAME=FILE'")
        given = None if self.edit is None else GivenEdit.parse(self.edit, what="edit")
        trains = given is not None and given.file is not None
        if trains:
            of_model = ("model", "num_examples", "base", "release", "share", "statistics")
            self._refuse([name for name in of_model if getattr(self, name) is not None], "for a model", self.edit)
            self._refuse([] if self.wait else ["wait"], "for a model", self.edit)
        elif self.model is None:
            hint = "" if given is None else f" {given.name}"
            raise UserInputError(
                f"give the model that was fine-tuned, or edit='NAME=FILE' to train the edit{hint} on a file"
            )
        else:
            check_count("num_examples", self.num_examples)
            self._refuse([] if self.training is None else ["training"], "for edit='NAME=FILE'", "a model")
        return given

    @staticmethod
    def _refuse(idle: list[str], whose: str, beside: str | None) -> None:
        if idle:
            raise UserInputError(f"{idle[0]}= is {whose}; leave it out beside {str(beside)[:80]}")


def send(
    asked: Asked, given: GivenEdit | None, gateway: Gateway, who: Identity, *, last: Path | None, progress: Watching
) -> Acknowledgement:
    """Contribute what is asked for; raises as `Federation.contribute`.

    Args:
        asked: What is contributed.
        given: The edit that it is, as `edit_given` returns it.
        gateway: The federation's gateway.
        who: As whom.
        last: Folder that was fetched to last; it is the base where nothing else says it.
        progress: True for a bar, or a function that is called with the bytes done and those in all.
    """
    if given is not None and given.file is not None:
        with requiring("Federation.contribute", "contributor"), watching("uploading", progress) as on_progress:
            from coldfuse.api.editing import contribute_edit  # noqa: PLC0415 - torch comes with the training

            return contribute_edit(
                gateway, given, who=who, work=_KEPT / who.id, training=asked.training, encoding=asked.encoding,
                timeout_s=asked.timeout_s, progress=on_progress,
            )  # fmt: skip
    assert asked.model is not None  # noqa: S101 - `edit_given` has refused that
    folder = find_base(
        asked.model, gateway, base=None if asked.base is None else Path(asked.base), release=asked.release, last=last,
        keep=_KEPT / who.id / "base",
    )  # fmt: skip
    manifest = require_fetched(folder)
    with requiring("Federation.contribute", "contributor"), watching("uploading", progress) as on_progress:
        from coldfuse.api import contributing  # noqa: PLC0415 - numpy comes with the first contribution

        offer = contributing.Offer(
            model=asked.model, base=folder, release=manifest.release, base_digest=manifest.model_digest, who=who,
            num_examples=check_count("num_examples", asked.num_examples), encoding=asked.encoding, share=asked.share,
            statistics=None if asked.statistics is None else Path(asked.statistics),
            edit=None if given is None else given.name,
        )  # fmt: skip
        until_s = None if asked.timeout_s is None else time.monotonic() + asked.timeout_s
        waiting = contributing.Waiting(is_wanted=asked.wait, until_s=until_s)
        return contributing.contribute(gateway, offer, waiting, progress=on_progress)
