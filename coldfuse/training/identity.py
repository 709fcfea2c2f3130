"""What makes a training run this run and no other: by it a checkpoint is known."""

from __future__ import annotations

from coldfuse.training.checkpoint import FIRST_LAYOUT, run_identity
from coldfuse.training.job import TrainingJob
from coldfuse.training.settings import TrainingSettings
from coldfuse.training.tasks import DEFAULT_TASK


def identities(job: TrainingJob, settings: TrainingSettings, task: str) -> tuple[str, str | None]:
    """Return the digest of all that decides the outcome, and what versions that knew one task called the same run.

    Args:
        job: What is trained on what.
        settings: How.
        task: The task with its options.
    """
    decisive: dict[str, object] = {
        "base": job.base_digest, "round": job.round, "train": job.train.digest(),
        "validation": job.validation.digest(), "settings": settings.decisive(),
    }  # fmt: skip
    kept = job.kept.digest() if job.kept else None
    older = run_identity(decisive, layout=FIRST_LAYOUT) if task == DEFAULT_TASK else None
    return run_identity({**decisive, "task": task, "kept": kept}), older
