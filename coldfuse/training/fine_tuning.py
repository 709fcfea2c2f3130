"""Fine-tune the base on private data: the step of a round that happens at a contributor. One way for every task.

The steps are those of Hugging Face's `Trainer` (`trainer`); around them stands what a node promises. It may be killed
at any instruction and must then arrive at the same bytes as if it had not been: all randomness comes from counters
(`schedule`), a checkpoint is one atomic file without pickles (`checkpoint`), and nothing else lives from one step to
the next.

A private head starts as the linear probe of the unchanged base, or as the head of the last round where that scores
better. A random head would first push noise through the body, and that noise, unlike what the tasks have in common,
would be fused.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coldfuse.durable import OnDamage
from coldfuse.naming.building import quiet
from coldfuse.training.compute import reproducible
from coldfuse.training.job import FineTuned, Stopped, TrainingJob, TrainingProgress, TrainingSettings
from coldfuse.training.run import Run
from coldfuse.training.schedule import derive_seed
from coldfuse.training.stopping import StoppedEarlyError
from coldfuse.training.tasks.task import TaskModel

_LOG = logging.getLogger(__name__)


def fine_tune(
    job: TrainingJob,
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[TrainingProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    on_damage: OnDamage = _LOG.warning,
) -> FineTuned | Stopped:
    """Fine-tune body and head, keep the best epoch, and resume from `checkpoint` if it is of this very run.

    Killed at any instant and started again, a run on a CPU with the same number of threads ends in the same bytes. On a
    GPU that holds as far as its kernels are deterministic. The checkpoint stays when training is done, so that a node
    killed before it has stored the result need not train again: discard it then (`discard_checkpoint`).

    Args:
        job: What is trained on what.
        settings: How.
        checkpoint: The file to resume from and to save to; None keeps nothing.
        progress: Called at each step and each score.
        stop: Asked before each step; once it says True, the run saves itself and ends.
        on_damage: Told of a checkpoint that cannot be resumed from.

    Returns:
        What came of it, or how far it came before it was stopped.

    Raises:
        UserInputError: The base or the settings cannot be trained with, or the checkpoint cannot be written.
        SchemaMismatchError: The body's tensors are not the base's.
    """
    with training_run(
        job, settings, checkpoint=checkpoint, progress=progress, stop=stop, on_damage=on_damage
    ) as (_, go):  # fmt: skip
        return go()


@contextmanager
def training_run(
    job: TrainingJob,
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[TrainingProgress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    on_damage: OnDamage = _LOG.warning,
) -> Iterator[tuple[TaskModel, Callable[[], FineTuned | Stopped]]]:
    """Yield a task's model, and what fine-tunes it as `fine_tune` does; after that, the model is the best epoch's.

    For who wants to do more with what was trained, such as score it, under the same seeded arithmetic.
    """
    # A body may have tensors that the base's files lack: they are drawn at random when it is loaded.
    seed = derive_seed(settings.seed, "load")
    with (
        quiet(),
        reproducible(seed=seed, device=settings.device, threads=settings.threads),
        tempfile.TemporaryDirectory(prefix="coldfuse-") as scratch,
    ):
        run = Run(job, settings, checkpoint=checkpoint, progress=progress, stop=stop, on_damage=on_damage)

        def go() -> FineTuned | Stopped:
            try:
                return run.go(Path(scratch))
            except StoppedEarlyError:
                return Stopped(step=0, num_steps=run.length.num_steps)

        yield run.loaded, go
