"""From a base to a finished delta: fine-tune on private data, subtract, and note what was made."""

from __future__ import annotations

import threading
from pathlib import Path

from coldfuse.contributor.events import Say
from coldfuse.contributor.mending import mend_base
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import Trained, WorkFolder
from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Score
from coldfuse.core.release import ReleaseManifest
from coldfuse.gateway import Gateway
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.checkpoint import discard_checkpoint
from coldfuse.training.delta import write_delta
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, Stopped, TrainingJob, TrainingProgress
from coldfuse.training.private import save_private


def make_delta(  # noqa: PLR0913 - what there is to say, by keyword
    settings: NodeSettings,
    work: WorkFolder,
    base: ReleaseManifest,
    *,
    gateway: Gateway,
    base_dir: Path,
    say: Say,
    stop: threading.Event,
) -> Trained | None:
    """Fine-tune the base and write the delta, going on where an earlier process was ended.

    Args:
        settings: What is trained, and how.
        work: Where the delta and what else comes of it goes.
        base: The release that is trained on.
        gateway: Where the base is fetched again, should it be damaged.
        base_dir: The node's copy of it.
        say: Reports how far it is.
        stop: Event that ends the training where it is.

    Returns:
        What was made; None if it was stopped before.
    """

    def progress(now: TrainingProgress) -> None:
        say("training", base.release, _describe(now), done=now.step / max(now.num_steps, 1), accuracy=now.score)

    def tell(sentence: str) -> None:
        say("damaged", base.release, sentence)

    def mend() -> bool:
        return mend_base(gateway, base_dir, base, tell)

    mend()
    job = TrainingJob(
        base_dir=base_dir, base_digest=base.model_digest, schema_names=open_checkpoint(base_dir).schema.keys(),
        round=base.release + 1, train=settings.train, validation=settings.validation,
    )  # fmt: skip
    say("training", base.release, "starting", done=0.0)
    made = fine_tune(
        job, settings.training, checkpoint=work.checkpoint, progress=progress, stop=stop.is_set, on_damage=tell
    )
    if isinstance(made, Stopped):
        return None
    work.forget_trained()
    delta = _write(work, base_dir, made, settings=settings, base=base)
    while mend():  # it may be the difference from what no longer was the base
        delta = _write(work, base_dir, made, settings=settings, base=base)
    save_private(work.head, made.private)
    score = Score(before=made.score_before, after=made.score_after)
    trained = Trained(
        base_release=base.release, base_digest=base.model_digest, work_digest=settings.work_digest(),
        num_examples=made.num_examples, num_steps=made.num_steps, score=score, encoding=settings.encoding, delta=delta,
    )  # fmt: skip
    work.forget_sent()
    work.save_trained(trained)
    discard_checkpoint(work.checkpoint)  # only now: what it spares is safe
    message = f"accuracy {score.before:.1%} → {score.after:.1%}, delta {delta.size_bytes / 2**20:.1f} MiB"
    say("trained", base.release, message, score=score)
    return trained


def _write(work: WorkFolder, base_dir: Path, made: FineTuned, *, settings: NodeSettings, base: ReleaseManifest) -> Blob:
    return write_delta(
        work.delta, open_checkpoint(base_dir), made.tensors, encoding=settings.encoding, base_digest=base.model_digest
    )


def _describe(now: TrainingProgress) -> str:
    if now.phase == "probe":
        return f"fitting a head on the unchanged base, step {now.step} of {now.num_steps}"
    accuracy = f", accuracy {now.score:.1%}" if now.score is not None else ""
    return f"epoch {now.epoch}, step {now.step} of {now.num_steps}{accuracy}"
