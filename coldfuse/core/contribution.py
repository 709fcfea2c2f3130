"""What a contributor sends beside its delta, and what a round remembers of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.blob import Blob
from coldfuse.core.names import DisplayName
from coldfuse.core.value import Digest, Name, Sentence, Value

Count = Annotated[int, Field(ge=0, le=2**53)]
"""A number that JSON readers of every language, the wire's 64 bits and a float take as it is."""

NumExamples = Annotated[int, Field(ge=1, le=2**40)]
"""More than anybody trains on. It may weigh a contribution: sums over all of them must stay finite and exact."""


class Score(Value):
    """The contributor's own validation accuracy around its training."""

    metric: Annotated[str, Field(max_length=64)] = "accuracy"
    """Name of what is measured."""
    before: float
    """Accuracy of a linear probe of the unchanged base."""
    after: float
    """Accuracy of the fine-tuned model."""


class ContributionManifest(Value):
    """Who, on which base, from how much data, and where the delta lies. Named by the SHA-256 of its canonical JSON."""

    version: Literal[1] = 1
    federation: Digest
    """Name of the federation that it is for, which no other has."""
    contributor: Name
    display_name: DisplayName | None = None
    """Name of its contributor for people, of which `contributor` is the id; None where that is the name."""
    round: Annotated[int, Field(ge=1, le=2**53)]
    """Number of the round that it is for."""
    base_release: Count
    """Number of the release that the delta is relative to."""
    base_digest: Digest
    """Model digest of that release."""
    task: Literal["text-classification"] = "text-classification"
    """Kind of the task that was trained."""
    trained: Literal["full"] = "full"
    """Parameters of the body that were trained: all."""
    encoding: Literal["F32", "BF16", "F16"]
    """Dtype of the dense delta."""
    num_examples: NumExamples
    """Number of distinct examples that were trained on."""
    num_steps: Count
    """Number of optimiser steps."""
    delta: Blob
    delta_digest: Digest
    """SHA-256 of the delta's list of parts: the order in which contributions are summed."""
    score: Score | None = None
    """The contributor's own score, for methods that weigh by it."""
    software: dict[Name, Annotated[str, Field(max_length=64)]] = Field(default_factory=dict)
    """Versions of the software that trained, for people."""


class Admission(Value):
    """A contribution that may be fused."""

    contribution: Digest
    """Digest of its manifest."""
    contributor: Name
    display_name: DisplayName | None = None
    """Name of its contributor for people; None where `contributor` is the name."""
    delta_digest: Digest
    """Digest of its delta's list of parts."""
    num_examples: NumExamples
    """Number of distinct examples that were trained on."""
    score: float | None = None
    """Accuracy of the fine-tuned model, as its contributor says."""
    checks: Digest | None = None
    """Name of the checks that its delta is verified by as it is read; None where none are needed, or none were made."""
    reason: Sentence = ""
    """What was found right, for people."""


class Rejection(Value):
    """A contribution that may not be fused, and why."""

    contribution: Digest
    """Digest of its manifest."""
    contributor: Annotated[str, Field(max_length=64)]
    """Name of its contributor, as it was sent."""
    display_name: DisplayName | None = None
    """Name of its contributor for people; None where `contributor` is the name, or the manifest cannot be read."""
    reason: Sentence
    """Why, and what its contributor can do."""
    is_late: bool = False
    """True where nothing is wrong with it, but its round closed before it was screened."""


def in_fusing_order(admissions: Iterable[Admission]) -> list[Admission]:
    """Sort by what was trained, not by when it came: the same contributions give the same bytes."""
    return sorted(admissions, key=lambda a: (a.delta_digest, a.num_examples, a.contribution))
