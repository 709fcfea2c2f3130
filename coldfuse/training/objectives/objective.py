"""What an option of the local objective is: settings that make a term, and the moments of training that a term sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from coldfuse.errors import UserInputError
from coldfuse.training.learnt import LearntTexts
from coldfuse.training.ways.way import Batch, no_examples

Score = Callable[[], float]
"""score(): return the model's score on the node's validation examples, as it is now."""


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """A prepared model before its first step, with the weights of the base."""

    model: nn.Module
    """What is trained; it has the base's weights."""
    shared: Mapping[str, nn.Parameter]
    """Parameters of the base's own that train, by the model's names."""
    round: int = 1
    """Number of the round."""
    examples: Callable[[int], Iterable[Batch]] = no_examples
    """examples(count): return batches of one training example each, at most that many."""
    learnt: LearntTexts | None = None
    """Training examples themselves; None of a task that has no head on a text's features."""
    folder: Path | None = None
    """Folder of the node in which a term keeps what lasts over rounds; None: it keeps nothing."""
    saved: Mapping[str, Tensor] | None = None
    """What an earlier process had of this term's tensors; None: training begins."""

    def own_weights(self, name: str) -> Mapping[str, nn.Parameter]:
        """Return the parameters of the base's own that train.

        Raises:
            UserInputError: There are none, as an adapter trains beside them; `name` is the objective's.
        """
        if hasattr(self.model, "peft_config") or not self.shared:
            raise UserInputError(
                f"--objective {name}: it holds the base's own weights, and an adapter trains beside them; train them "
                "(--train full, bias, norms, layers or masked), or leave it out"
            )
        return self.shared


class Term:
    """An option of the objective at work in one run; each moment does nothing unless a term says otherwise."""

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of a step, or None."""
        return None

    def rows(self) -> Tensor | None:
        """Return what the term has to know of each training example, a row each in their order, or None."""
        return None

    def loss(self, features: Tensor, rows: Tensor) -> Tensor:
        """Return what is added to the loss of a batch; asked of terms that have `rows`.

        Args:
            features: What the body makes of the batch's texts, shape (B, H), as the head gets them but for dropout.
            rows: Rows of the batch's examples.
        """
        raise NotImplementedError("a term without rows adds nothing to a batch's loss")

    def note_gradients(self) -> None:
        """See the gradients of a step's loss, before any penalty's."""

    def repeat(self, again: Callable[[], None]) -> None:
        """Have a step's gradients made `again`, at other weights."""

    def after_step(self) -> None:
        """See the weights after a step."""

    def rate(self, name: str) -> float:
        """Return the share of the learning rate with which a parameter trains, by the model's name of it."""
        del name
        return 1.0

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what a checkpoint has to hold for a later process to go on: live memory, not copies."""
        return {}

    def finish(self, score: Score, is_better: Callable[[float, float], bool]) -> float | None:
        """See the best weights once training is over; return their score anew if they were changed."""
        del score, is_better
        return None


class Objective(BaseModel, ABC):
    """Settings of an option of the local objective."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    name: ClassVar[str]
    """Name in options."""
    summary: ClassVar[str]
    """One line for help texts."""
    source: ClassVar[str]
    """The paper that defines it."""

    @abstractmethod
    def begin(self, beginning: Beginning) -> Term:
        """Make the term, before the optimiser is made. Raises `UserInputError` if the model cannot have it."""

    def settled(self) -> Objective:
        """Return the objective with the digests of the files that it names: what decides training stands in its line.

        Raises:
            UserInputError: A file is not there.
        """
        return self

    def line(self) -> str:
        """Return the objective with every parameter: once it is `settled`, equal lines train equally."""
        values = self.model_dump(mode="json").items()
        given = [
            f'{key}="{value}"' if isinstance(value, str) else f"{key}={value}"
            for key, value in values
            if value not in (None, "")
        ]
        return f"{self.name}({', '.join(given)})" if given else self.name


def copies(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return copies of parameters as they are now."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}
