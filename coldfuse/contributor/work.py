"""What a node remembers of its work on one base: what was trained, and what was sent of it."""

from __future__ import annotations

from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Score
from coldfuse.core.statistics import ContributedStatistics
from coldfuse.core.value import Digest, Value


class Trained(Value):
    """A finished training: everything that a manifest says of it."""

    base_release: int
    """Number of the release that was fine-tuned."""
    base_digest: Digest
    """Model digest of that release."""
    work_digest: Digest
    """Digest of the data and settings; with others the training is not the same."""
    num_examples: int
    """Distinct examples trained on."""
    num_steps: int
    """Optimiser steps done."""
    score: Score | None
    """Validation score before and after; None where nobody validates."""
    task: str = "text-classification"
    """Name of the task."""
    trained: str = "full"
    """What was trained of the shared part."""
    beats_base: bool = True
    """Whether it is better than its base on the validation examples; older versions did not ask."""
    encoding: str
    """Dtype of the delta."""
    delta: Blob
    """Parts of the delta's file."""
    mask: Blob | None = None
    """Parts of the mask that its values are at, where it has one."""
    statistics: ContributedStatistics | None = None
    """What travels beside it, where the federation asked for that."""
    edit: str | None = None
    """Name of the edit that it is; None: it is none."""
    asked: str = "none"
    """Kind of statistics that the federation asked for when it was made."""


class Sent(Value):
    """A contribution that was committed. Written before the commit: if its answer is lost, the gateway knows."""

    federation: Digest
    """Federation that it went to."""
    round: int
    """Number of the round."""
    contribution: Digest
    """SHA-256 of its manifest."""
    trained: Trained | None = None
    """What was sent, should `trained.json` be lost; None in files of older versions."""
    after_release: int | None = None
    """Number of the release that the round was on; None, of an older version: the base."""
    is_done: bool | None = None
    """True once it is known what became of it; None of an older version, which did not say."""
