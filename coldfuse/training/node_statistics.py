"""What a node brings beside its delta: the statistics of its fine-tuned model on its own examples, coded to travel.

The model is built anew from the base and what training made of it, so that it does not matter which way it was trained.
All randomness comes from the seed: a node that is killed meanwhile computes again, and arrives at the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from coldfuse.core.blob import Blob
from coldfuse.core.serialization import blob_digest
from coldfuse.core.statistics import Coding, ContributedStatistics, StatisticsKind
from coldfuse.errors import UserInputError
from coldfuse.naming.building import quiet
from coldfuse.tensors.coded_statistics import all_coded_bytes, usual_coding, write_coded_statistics
from coldfuse.training.compute import pick_device, reproducible
from coldfuse.training.job import FineTuned, TrainingJob, TrainingSettings
from coldfuse.training.model import private_tensors, shared_tensors, stored_names_in
from coldfuse.training.schedule import derive_seed
from coldfuse.training.swag import weight_variance
from coldfuse.training.task_statistics import Estimated, Wish, estimate, info_of, set_tensors, shapes_of
from coldfuse.training.tasks.task import Feature, TaskModel

NUM_EXAMPLES = 256
"""Number of examples that a node's statistics are of, where it has so many."""

Tell = Callable[[str, float], None]
"""tell(sentence, done): what is done, and the fraction of it; what it raises ends the computation."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What statistics a node computes."""

    kind: StatisticsKind
    """Kind that the federation's method looks at."""
    coding: Coding | None = None
    """How the numbers travel; None for what suits the kind."""
    num_examples: int = NUM_EXAMPLES
    """Number of examples, chosen at random by the training's seed."""


def make_statistics(  # noqa: PLR0913 - what there is to say, by keyword
    job: TrainingJob,
    settings: TrainingSettings,
    made: FineTuned,
    *,
    asked: Asked,
    delta: Blob,
    path: Path,
    tell: Tell,
) -> ContributedStatistics:
    """Compute the statistics of a fine-tuned model, and write them to a file.

    Args:
        job: What was trained on what.
        settings: How.
        made: What came of it.
        asked: What is computed.
        delta: The parts of its delta, which the file names.
        path: The file; it is there whole or not at all.
        tell: Is told the bytes before anything is computed, and then how far it is.

    Raises:
        UserInputError: The task, or the model, has no such statistics.
    """
    seed = derive_seed(settings.seed, "load")
    with quiet(), reproducible(seed=seed, device=settings.device, threads=settings.threads):
        loaded = rebuilt(job, settings, made)
        features = job.task.encode(loaded, job.train)
        names = stored_names_in(loaded.model, loaded.shared_part, job.schema_names)
        coding = asked.coding or usual_coding(asked.kind)
        shapes = shapes_of(loaded, names, asked.kind)
        if not shapes:
            raise UserInputError(f"this model has no layer that {asked.kind} statistics are of; take another method")
        size_bytes, count = all_coded_bytes(shapes, asked.kind, coding), min(asked.num_examples, len(features))
        what = f"{_WORDS[asked.kind]} of {len(shapes)} tensors"
        tell(f"{what} from {count:,} examples; {size_bytes:,} bytes will travel as {coding}", 0.0)
        found = _found(loaded, features, names, asked, settings, tell)
        # A long document may pass as many pieces: what is counted is what was trained on.
        found = replace(found, num_examples=min(found.num_examples, len(job.train)))
    return _written(found, asked.kind, coding, delta, path)


_WORDS = {
    "fisher": "Fisher information", "gram": "Gram matrices of the inputs", "variance": "variance along the training",
}  # fmt: skip


def rebuilt(job: TrainingJob, settings: TrainingSettings, made: FineTuned) -> TaskModel:
    """Return the task's model with what training made of it, on the device that trains.

    Raises:
        UserInputError: The base's files hold a tensor otherwise than the model does.
    """
    loaded = job.task.load(job.base_dir, job.train, settings)
    values = made.shared()
    set_tensors(shared_tensors(loaded.shared_part, job.schema_names), values)
    set_tensors(private_tensors(loaded.model, loaded.shared_part, job.schema_names), made.private.tensors)
    for name, tensor in shared_tensors(loaded.shared_part, job.schema_names).items():
        if name in values and not torch.equal(tensor, values[name].to(tensor)):
            raise UserInputError(
                f"tensor {name}: the base's files hold it otherwise than the model does, and statistics of such a "
                "model cannot be computed; take a method that needs none"
            )
    loaded.model.to(pick_device(settings.device))
    return loaded


def _found(
    loaded: TaskModel,
    features: Sequence[Feature],
    names: Mapping[str, str],
    asked: Asked,
    settings: TrainingSettings,
    tell: Tell,
) -> Estimated:
    def on_example(done: int, total: int) -> None:
        tell(f"{done:,} of {total:,} examples", done / max(total, 1))

    if asked.kind == "variance":
        return weight_variance(loaded, features, names, settings=settings, on_step=lambda done, total: tell(
            f"{done:,} of {total:,} snapshots", done / max(total, 1)
        ))  # fmt: skip
    wish = Wish(kind=asked.kind, num_examples=asked.num_examples, seed=settings.seed)
    return estimate(loaded, features, names, wish, on_example=on_example)


def _written(found: Estimated, kind: StatisticsKind, coding: Coding, delta: Blob, path: Path) -> ContributedStatistics:
    info = info_of(found, kind).model_copy(update={"coding": coding, "delta": blob_digest(delta)})
    tensors = {name: tensor.contiguous().numpy() for name, tensor in found.tensors.items()}
    file, error = write_coded_statistics(path, {n: a.shape for n, a in tensors.items()}, tensors.__getitem__, info)
    return ContributedStatistics(
        kind=kind, estimator=found.estimator, coding=coding, num_examples=found.num_examples, count=found.count,
        error=error, file=file, digest=blob_digest(file),
    )  # fmt: skip
