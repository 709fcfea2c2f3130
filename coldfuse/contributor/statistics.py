"""What a node brings beside its delta, where the federation's method looks at statistics."""

from __future__ import annotations

import threading
from pathlib import Path

from coldfuse.contributor.events import Say, StoppedError
from coldfuse.contributor.settings import NodeSettings
from coldfuse.core.blob import Blob
from coldfuse.core.statistics import ContributedStatistics, StatisticsRule
from coldfuse.errors import UserInputError
from coldfuse.training.job import FineTuned, TrainingJob
from coldfuse.training.node_statistics import Asked, make_statistics


def add_statistics(  # noqa: PLR0913 - what there is to say, by keyword
    job: TrainingJob,
    settings: NodeSettings,
    made: FineTuned,
    *,
    rule: StatisticsRule,
    delta: Blob,
    path: Path,
    say: Say,
    stop: threading.Event,
) -> ContributedStatistics | None:
    """Compute the statistics that a federation asks for; None where it asks for none, or can do without.

    Args:
        job: What was trained on what.
        settings: How.
        made: What came of it.
        rule: What the federation asks for.
        delta: The parts of its delta.
        path: The file that is written.
        say: Reports how far it is.
        stop: Event that ends it.

    Raises:
        StoppedError: It was asked to stop; started again, it is computed again, to the same bytes.
        UserInputError: There are none of this task or model, and the federation takes no contribution without.
    """
    if rule.wanted is None:
        return None
    base_release = job.round - 1

    def tell(sentence: str, done: float) -> None:
        if stop.is_set():
            raise StoppedError
        say("statistics", base_release, sentence, done=done)

    asked = Asked(kind=rule.wanted)
    try:
        made_of_it = make_statistics(job, settings.training, made, asked=asked, delta=delta, path=path, tell=tell)
    except UserInputError as error:
        if rule.is_required:
            raise
        say("statistics", base_release, f"none are sent: {error}")
        return None
    size = f"{made_of_it.file.size_bytes / 2**20:.1f} MiB"
    say("statistics", base_release, f"{size} as {made_of_it.coding}, off by {made_of_it.error:.2%}", done=1.0)
    return made_of_it
