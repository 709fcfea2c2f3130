"""From the changes of somebody's own training to a delta in the work folder: what a node's sending takes up from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coldfuse.contributor.brought import bring_statistics
from coldfuse.contributor.settings import Offering
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.work import Trained
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Score
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import UserInputError
from coldfuse.tensors.changes import Change, write_changes
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.encodings import Encoding
from coldfuse.tensors.tensor_file import read_file_header


@dataclass(frozen=True, kw_only=True)
class Made:
    """What training made, beside the delta."""

    num_examples: int
    """Distinct examples trained on."""
    num_steps: int = 0
    """Optimiser steps done."""
    score: Score | None = None
    """The contributor's own score, where it has one."""
    statistics: Path | None = None
    """File of the model's statistics, where there is one."""
    trained: str = "full"
    """What was trained of the shared part."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a delta is relative to."""

    release: ReleaseManifest
    """Release that was trained on."""
    base: Checkpoint
    """Its files."""
    mend: Callable[[], bool]
    """mend(): hash them, and fetch again what is not what it was; False if all was right."""
    rule: StatisticsRule
    """Statistics that the federation asks for."""
    encoding: Encoding
    """Dtype in which the delta travels."""


def write_own_delta(
    work: WorkFolder,
    ground: Ground,
    changes: Mapping[str, Change],
    made: Made,
    *,
    offering: Offering,
) -> Trained:
    """Write the delta, and return what there is to say of it; nothing counts as finished yet.

    Raises:
        UserInputError: Nothing has changed, a value is not finite, or statistics are asked for and not given.
    """
    release = ground.release

    def write() -> Blob:
        return write_changes(
            work.delta, ground.base.schema, changes, dtype=ground.encoding, base_digest=release.model_digest
        )

    if made.statistics is None:
        require_no_statistics(ground.rule)
    work.forget_trained()
    blob = write()
    while ground.mend():  # it may be the difference from what no longer was the base
        blob = write()
    if not read_file_header(work.delta).tensors:  # it would count for the quorum, and hold the others back
        raise UserInputError(
            f"nothing differs from release {release.release} in what is shared; nothing was sent. Is the model frozen, "
            "or was another one trained?"
        )
    statistics = None if made.statistics is None else bring_statistics(
        made.statistics, work.statistics, base=ground.base.schema, rule=ground.rule, delta=blob
    )  # fmt: skip
    return Trained(
        base_release=release.release, base_digest=release.model_digest, work_digest=offering.work_digest(),
        num_examples=made.num_examples, num_steps=made.num_steps, score=made.score, encoding=ground.encoding,
        delta=blob, statistics=statistics, asked=ground.rule.kind, task="own-training", trained=made.trained,
    )  # fmt: skip


def require_no_statistics(rule: StatisticsRule) -> None:
    """Raise `UserInputError` if a federation takes no delta without statistics."""
    if rule.is_required:
        raise UserInputError(
            f"the federation's method asks for {rule.kind} statistics beside every delta; compute them with coldfuse "
            f"statistics MODEL --kind {rule.kind}, and give statistics=FILE"
        )
