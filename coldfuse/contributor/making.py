"""From a base to a finished delta: fine-tune on private data, subtract, and note what was made."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from coldfuse.contributor.bodies import frozen_body
from coldfuse.contributor.events import Say, StoppedError, describe_score, format_score
from coldfuse.contributor.mending import mend_base
from coldfuse.contributor.settings import NodeSettings
from coldfuse.contributor.state import WorkFolder
from coldfuse.contributor.statistics import add_statistics
from coldfuse.contributor.work import Trained
from coldfuse.core.contribution import Score
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import ColdfuseError
from coldfuse.gateway import Gateway
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.training.checkpoint import discard_checkpoint
from coldfuse.training.delta import Written, write_finetuned
from coldfuse.training.fine_tuning import fine_tune
from coldfuse.training.job import FineTuned, Stopped, TrainingJob, TrainingProgress
from coldfuse.training.private import PrivatePart, read_private, save_private


def make_delta(  # noqa: PLR0913 - what there is to say, by keyword
    settings: NodeSettings,
    work: WorkFolder,
    base: ReleaseManifest,
    *,
    gateway: Gateway,
    base_dir: Path,
    say: Say,
    stop: threading.Event,
    asked: StatisticsRule | None = None,
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
        asked: Statistics that the federation asks for beside the delta.

    Returns:
        What was made; None if it was stopped before.
    """
    metric = settings.task.metric

    def progress(now: TrainingProgress) -> None:
        say(
            "training",
            base.release,
            _describe(now, metric),
            done=now.step / max(now.num_steps, 1),
            metric=settings.task.metric,
            value=now.score,
        )

    def tell(sentence: str) -> None:
        say("damaged", base.release, sentence)

    def mend() -> bool:
        return mend_base(gateway, base_dir, base, tell)

    mend()
    model_dir = base_dir if base.module is None else frozen_body(settings, base.module, work, say)
    job = TrainingJob(
        base_dir=model_dir, base_digest=base.model_digest, schema_names=open_checkpoint(model_dir).schema.keys(),
        round=base.release + 1, train=settings.train, validation=settings.validation, task=settings.task,
        kept=_kept(work, tell), folder=work.path.parent, module_dir=base_dir if base.module else None,
    )  # fmt: skip
    say("training", base.release, "starting", done=0.0)
    made = fine_tune(
        job, settings.training, checkpoint=work.checkpoint, progress=progress, stop=stop.is_set, on_damage=tell
    )
    if isinstance(made, Stopped):
        return None
    work.forget_trained()
    written = _write(work, base_dir, made, settings=settings, base=base)
    while mend():  # it may be the difference from what no longer was the base
        written = _write(work, base_dir, made, settings=settings, base=base)
    delta = written.delta
    save_private(work.head, made.private)
    rule = asked or StatisticsRule()
    try:
        statistics = add_statistics(
            job, settings, made, rule=rule, delta=delta, path=work.statistics, say=say, stop=stop
        )
    except StoppedError:
        return None
    task = settings.task
    score = Score(
        metric=task.metric, before=_bounded(made.score_before, higher=task.higher_is_better),
        after=_bounded(made.score_after, higher=task.higher_is_better), higher_is_better=task.higher_is_better,
    )  # fmt: skip
    trained = Trained(
        base_release=base.release, base_digest=base.model_digest, work_digest=settings.work_digest(),
        num_examples=made.num_examples, num_steps=made.num_steps, score=score, encoding=settings.encoding, delta=delta,
        mask=written.mask, edit=settings.edit,
        statistics=statistics, asked=rule.kind, task=task.name, trained=made.trained, beats_base=made.beats_base,
    )  # fmt: skip
    work.forget_sent()
    work.save_trained(trained)
    discard_checkpoint(work.checkpoint)  # only now: what it spares is safe
    losses = f", loss {made.loss_before:.4g} → {made.loss_after:.4g}" if made.score_before == made.score_after else ""
    message = f"{describe_score(score)}{losses}, delta {delta.size_bytes / 2**20:.1f} MiB"
    say("trained", base.release, message, score=score)
    return trained


def _kept(work: WorkFolder, tell: Callable[[str], None]) -> PrivatePart | None:
    """Return the private tensors of the last round; what cannot be read counts as none."""
    for path in work.earlier_heads():
        try:
            return read_private(path)
        except (ColdfuseError, OSError) as error:
            tell(f"{path}: the private tensors of that round cannot be read ({error}); the head starts anew")
    return None


def _bounded(score: float, *, higher: bool) -> float:
    """Return a score that a manifest can carry: a perplexity may be beyond all numbers, and a correlation be none."""
    if score != score:
        return 0.0 if higher else 1e300  # never one that passes for a good one
    return max(min(score, 1e300), -1e300)


def _write(
    work: WorkFolder, base_dir: Path, made: FineTuned, *, settings: NodeSettings, base: ReleaseManifest
) -> Written:
    return write_finetuned(
        work.delta, open_checkpoint(base_dir), made, encoding=settings.encoding, base_digest=base.model_digest,
        masks=work.masks.folder,
    )  # fmt: skip


def _describe(now: TrainingProgress, metric: str) -> str:
    if now.phase == "probe":
        return f"fitting a head on the unchanged base, step {now.step} of {now.num_steps}"
    score = "" if now.score is None else f", {metric} {format_score(metric, now.score)}"
    return f"epoch {now.epoch}, step {now.step} of {now.num_steps}{score}"
