"""What a task is to the one way of training: data to examples, a model with its loss, a metric, and what is private.

A task is a small frozen dataclass; its fields are its options, `NAME(option=value)` on the command line. What is shared
is not said by the task but found: the tensors of its model that the base's files have too. All others are private: they
stay at the node, which keeps them for the next round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from coldfuse.data.tables import FileFormat

if TYPE_CHECKING:
    from torch import Tensor, nn

    from coldfuse.training.settings import TrainingSettings

E = TypeVar("E", bound="Examples")

Feature = Mapping[str, object]
"""One example as its model takes it, not yet padded; `length` is the number of tokens (or what else costs) that pass
through the model, by which examples are put side by side."""


class Examples(Protocol):
    """Private examples in memory."""

    @property
    def report(self) -> Any:
        """What was read to make them, with `lines()` and `as_json()`; None where they were made otherwise."""

    def __len__(self) -> int:
        """Return the number of examples."""

    def take(self: E, indices: Sequence[int], /) -> E:
        """Return the examples at `indices`, in that order."""

    def digest(self) -> str:
        """Return the digest of all that training sees."""


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """Which data a task is to read."""

    data: Path | str | Sequence[Path | str]
    """Files, folders, and what else data are read from."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of each role that the user names; the others are found by their usual names."""
    file_format: FileFormat | None = None
    """Separator and encoding of text files; None: they are found."""
    limit: int | None = None
    """Number of examples that are read at most; None for all."""


def count_targets(batch: Mapping[str, Tensor]) -> int:
    """Return over how many targets the loss of a batch is a mean: labels that are not -100; without labels, rows."""
    labels = batch.get("labels")
    if labels is None:
        return len(next(iter(batch.values())))
    return int((labels != -100).sum())


@dataclass(kw_only=True)
class TaskModel:
    """A model that is ready to be trained on a task: float32, on the CPU."""

    model: nn.Module
    """What is trained: `model(**batch)` returns an output with `loss`, a mean over the batch's targets."""
    processor: Any
    """Tokenizer, or whatever else makes features of examples."""
    collate: Callable[[Sequence[Feature]], dict[str, Tensor]]
    """Makes the model's arguments of a few features, padded to the longest of them."""
    body: nn.Module | None = None
    """Part of `model` whose tensors may be in the base's files: one of transformers' models; None: all of it."""
    is_divisible: bool = True
    """True where a batch may pass in parts; a contrastive loss, where every example meets every other, may not."""
    num_targets: Callable[[Mapping[str, Tensor]], int] = count_targets
    """Number of targets that a batch's loss is the mean of."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What belongs to the private tensors beside their numbers, such as the labels' names; kept with them."""

    @property
    def shared_part(self) -> nn.Module:
        """Module of transformers that holds what is shared."""
        return self.body if self.body is not None else self.model


class Task(Protocol):
    """A kind of task. Modules of tasks are light to import: torch and transformers come with the first model."""

    @property
    def name(self) -> str:
        """Name, transformers' own where it has one; for `--task` and a contribution's manifest."""

    @property
    def metric(self) -> str:
        """Name of what `score` measures."""

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one."""

    @property
    def has_private_head(self) -> bool:
        """Whether the task puts a head of its own on the shared body."""

    def read(self, request: DataRequest, *, like: Any = None) -> Any:
        """Read examples; `like` are the training data, for data that validate them. The result is `Examples`."""

    def load(self, base_dir: Path, examples: Any, settings: TrainingSettings) -> TaskModel:
        """Load the base's model with a new private head, where there is one, in float32 on the CPU.

        Args:
            base_dir: The base's folder.
            examples: What it is to be trained on: they say how many classes there are.
            settings: How it is to be trained.
        """

    def encode(self, loaded: TaskModel, examples: Any) -> Sequence[Feature]:
        """Make features of the examples, in their order."""

    def start_head(self, loaded: TaskModel, features: Sequence[Feature]) -> None:
        """Fit the private head to the features of the unchanged body, where there is one: its linear probe."""

    def score(self, loaded: TaskModel, examples: Any, features: Sequence[Feature]) -> float:
        """Return the metric's value on examples, with the model in the mode for that and without gradients."""
