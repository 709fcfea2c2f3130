"""What a contributor sends beside its delta, and what a round remembers of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.blob import Blob
from coldfuse.core.value import Digest, Name, Sentence, Value

Count = Annotated[int, Field(ge=0)]


class Score(Value):
    """The contributor's own validation accuracy around its training."""

    metric: Annotated[str, Field(max_length=64)] = "accuracy"
    before: float
    """Of a linear probe on the unchanged base."""
    after: float
    """Of the fine-tuned model."""


class ContributionManifest(Value):
    """Who, on which base, from how much data, and where the delta lies. Named by the SHA-256 of its canonical JSON."""

    version: Literal[1] = 1
    federation: Digest
    contributor: Name
    round: Annotated[int, Field(ge=1)]
    base_release: Count
    base_digest: Digest
    """Model digest of the release that the delta is relative to."""
    task: Literal["text-classification"] = "text-classification"
    trained: Literal["full"] = "full"
    encoding: Literal["F32", "BF16", "F16"]
    """Dtype of the dense delta."""
    num_examples: Annotated[int, Field(ge=1)]
    num_steps: Count
    delta: Blob
    delta_digest: Digest
    """SHA-256 of the delta's list of parts: the order in which contributions are summed."""
    score: Score | None = None
    software: dict[Name, Annotated[str, Field(max_length=64)]] = Field(default_factory=dict)


class Admission(Value):
    """A contribution that may be fused."""

    contribution: Digest
    """Digest of the manifest."""
    contributor: Name
    delta_digest: Digest
    num_examples: Annotated[int, Field(ge=1)]
    score: float | None = None
    """Of the fine-tuned model, as its contributor says."""
    reason: Sentence = ""


class Rejection(Value):
    """A contribution that may not be fused, and why."""

    contribution: Digest
    contributor: Annotated[str, Field(max_length=64)]
    reason: Sentence
    is_late: bool = False
    """Nothing is wrong with it, but its round closed before it was screened."""


def in_fusing_order(admissions: Iterable[Admission]) -> list[Admission]:
    """Sort by what was trained, not by when it came: the same contributions give the same bytes."""
    return sorted(admissions, key=lambda a: (a.delta_digest, a.num_examples, a.contribution))
