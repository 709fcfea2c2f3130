"""What a node contributes, and as whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from coldfuse.core.names import Identity
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.data.dataset import TextDataset
from coldfuse.tensors.encodings import Encoding
from coldfuse.training.job import TrainingSettings


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
    train: TextDataset
    """Private examples to learn from; they never leave the node."""
    validation: TextDataset
    """Private examples that scores are computed on."""
    training: TrainingSettings
    """Settings of the fine-tuning."""
    encoding: Encoding = "F32"
    """Dtype in which the delta travels."""

    def __post_init__(self) -> None:
        """Refuse what is no name before anything is done under it."""
        Identity.of(self.name)

    @property
    def who(self) -> Identity:
        """Id and name of the contributor."""
        return Identity.of(self.name)

    def work_digest(self) -> str:
        """Digest what decides the delta: with the same, a finished training is not made again."""
        data = [self.train.digest(), self.validation.digest()]
        return sha256(canonical_json([self.training.decisive(), data, self.encoding]))
