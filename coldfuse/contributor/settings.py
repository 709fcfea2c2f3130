"""What a node contributes, and as whom."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from coldfuse.core.names import Identity
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.tensors.encodings import Encoding
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import DEFAULT_TASK, describe_task, find_task
from coldfuse.training.tasks.task import Task


class Offering(Protocol):
    """What is contributed, whoever makes it: a node from data, or somebody else's own training."""

    @property
    def who(self) -> Identity:
        """Id and name of the contributor."""

    def work_digest(self) -> str:
        """Digest what decides the delta: with the same, what is finished is not made again."""


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What a node contributes, and as whom."""

    name: str
    """Name of the contributor in the federation, of any script."""
    train: Any
    """Private examples of the task to learn from; they never leave the node."""
    validation: Any
    """Private examples that scores are computed on."""
    training: TrainingSettings
    """Settings of the fine-tuning."""
    task: Task = field(default_factory=lambda: find_task(DEFAULT_TASK))
    """Task that the examples are of."""
    send_anyway: bool = False
    """True to send also what is no better than its base on the validation examples."""
    encoding: Encoding = "F32"
    """Dtype in which the delta travels."""
    body: Path | None = None
    """Folder of the frozen body, for a federation that shares a module on one; None: where the federation says."""
    is_named: bool = False
    """True to agree to be named in the cards of releases."""

    edit: str | None = None
    """Name of the edit that it is, of the task `edit`; None: it is none."""

    def __post_init__(self) -> None:
        """Refuse what is no name before anything is done under it."""
        Identity.of(self.name)

    @property
    def who(self) -> Identity:
        """Id and name of the contributor."""
        return replace(Identity.of(self.name), is_named=self.is_named)

    def work_digest(self) -> str:
        """Digest what decides the delta: with the same, a finished training is not made again."""
        data, line = [self.train.digest(), self.validation.digest()], describe_task(self.task)
        other = [] if line == DEFAULT_TASK else [line]  # as older versions have it, which knew one task
        named = [] if self.edit is None else [{"edit": self.edit}]
        return sha256(canonical_json([self.training.decisive(), data, self.encoding, *other, *named]))
