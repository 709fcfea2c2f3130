"""Scoring models of a round on the operator's suites: the base, a candidate, and models of some of the contributions.

A task is handed names and numbers, never tensors: it brings a release's files, or fuses contributions, into a folder of
its own machine, which is gone when it ends. What comes back is how well the model does on each example.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from coldfuse.aggregator.model import Base, open_base
from coldfuse.aggregator.release import fuse_into
from coldfuse.core.contribution import Admission
from coldfuse.core.federation import FederationSettings
from coldfuse.core.gate import SuiteCounts
from coldfuse.core.release import ReleaseManifest
from coldfuse.engine.execution import Executor, ThreadExecutor
from coldfuse.errors import DamagedObjectError, FusionError, StorageError, UserInputError
from coldfuse.registry.federation import Federation
from coldfuse.tensors.model_folder import is_inside
from coldfuse.tensors.stores import federation_store

if TYPE_CHECKING:
    from coldfuse.evaluation.measured import Outcomes
    from coldfuse.evaluation.suites import Suite

log = logging.getLogger(__name__)

Model = ReleaseManifest | tuple[Admission, ...]
"""What is scored: a release, published or not, or what these contributions make of the base."""

Score = Callable[[Path, "Sequence[Suite]"], "list[Outcomes]"]
"""score(model_dir, suites): how well the model in a folder does on each example of every suite."""

_COPIED_AT_ONCE = 8 << 20
_BESIDE_BYTES = 128 << 20
"""What texts and what is computed of them take beside the model."""


class Examiner(Protocol):
    """Counts, suite by suite, what only the base gets right and what only another model gets right."""

    def prepare(self, federation: Federation, base: Base, executor: Executor) -> None:
        """Score the base; raises `UserInputError` where its suites cannot be used with this model."""

    def count(
        self, federation: Federation, base: Base, models: Sequence[Model], executor: Executor
    ) -> Iterator[tuple[int, tuple[SuiteCounts, ...]]]:
        """Yield the index of a model and its counts beside the base, as they are ready."""


@dataclass(frozen=True)
class Examination:
    """What the tasks share."""

    store_url: str
    settings: FederationSettings
    base: ReleaseManifest
    suites: Sequence[Suite]
    score: Score | None
    memory_bytes: int
    """Memory that one task may take."""


@dataclass
class SuiteExaminer:
    """Scores on suites that the operator holds, on whatever runs the tasks. The base is scored once a release."""

    suites: Sequence[Suite]
    score: Score | None = None
    """Scores the model in a folder; None: `evaluation.outcomes.score_folder`."""
    _known: dict[str, list[Outcomes]] = field(default_factory=dict, repr=False)
    """Outcomes of the base, by its model digest; of the newest one alone."""

    def prepare(self, federation: Federation, base: Base, executor: Executor) -> None:
        """Score the base.

        Raises:
            UserInputError: A worker has too little memory for the model, or a suite cannot be used with it.
        """
        if not self.suites:
            return
        needed, there = _needed_bytes(base), executor.task_bytes * executor.num_workers
        if needed > there:
            raise UserInputError(
                f"scoring the model on a suite takes {needed >> 20:,} MiB, and the workers of a machine may take "
                f"{there >> 20:,} MiB; give --memory more"
            )
        self._base_outcomes(federation, base, executor)

    def count(
        self, federation: Federation, base: Base, models: Sequence[Model], executor: Executor
    ) -> Iterator[tuple[int, tuple[SuiteCounts, ...]]]:
        """Yield the index of a model and its counts beside the base, as they are ready.

        What cannot be scored though the base can, as its numbers are broken, gets nothing right.
        """
        if not self.suites:
            yield from ((index, ()) for index in range(len(models)))
            return
        before = self._base_outcomes(federation, base, executor)
        examination = self._examination(federation, base, executor)
        at_once = _at_once(base, executor)
        for first in range(0, len(models), at_once):  # as many as there is memory for
            for index, after in executor.run(examine, examination, list(models[first : first + at_once])):
                yield first + index, self._counts(before, after)

    def _counts(self, before: Sequence[Outcomes], after: Sequence[Outcomes] | str) -> tuple[SuiteCounts, ...]:
        from coldfuse.evaluation.measured import nothing_right
        from coldfuse.evaluation.suite_counts import counts_of

        if isinstance(after, str):
            log.warning("a model cannot be scored, so it gets nothing right: %s", after)
        counts: list[SuiteCounts] = []
        for index, (suite, base) in enumerate(zip(self.suites, before, strict=True)):
            counts += counts_of(suite, base, nothing_right(base) if isinstance(after, str) else after[index])
        return tuple(counts)

    def _base_outcomes(self, federation: Federation, base: Base, executor: Executor) -> list[Outcomes]:
        digest = base.release.model_digest
        if digest not in self._known:
            examination = self._examination(federation, base, executor)
            ((_, found),) = executor.run(examine, examination, [base.release])
            if isinstance(found, str):
                raise UserInputError(f"the suites cannot be used with the model: {found}")
            self._known = {digest: found}
        return self._known[digest]

    def _examination(self, federation: Federation, base: Base, executor: Executor) -> Examination:
        return Examination(
            store_url=federation.store.url, settings=federation.settings, base=base.release, suites=self.suites,
            score=self.score, memory_bytes=executor.task_bytes * executor.num_workers // _at_once(base, executor),
        )  # fmt: skip


def _needed_bytes(base: Base) -> int:
    return 4 * sum(spec.num_elements for spec in base.schema.values()) + _BESIDE_BYTES


def _at_once(base: Base, executor: Executor) -> int:
    """Return how many models are scored at a time on a machine."""
    return min(max(executor.task_bytes * executor.num_workers // _needed_bytes(base), 1), executor.num_workers)


def examine(shared: Examination, model: Model) -> list[Any] | str:
    """Return how well a model does on each example of the suites, or why it cannot be scored: what a task does.

    Raises:
        DamagedObjectError: Something that it is made of is damaged.
        StorageError: The store is away.
    """
    score = shared.score or _score
    federation = Federation(federation_store(shared.store_url), shared.settings)
    with tempfile.TemporaryDirectory(prefix="coldfuse-examine-") as scratch:
        folder = Path(scratch)
        try:
            if isinstance(model, ReleaseManifest):
                write_release(federation, model, folder)
            else:
                executor = ThreadExecutor(1, memory_bytes=shared.memory_bytes)
                fuse_into(federation, open_base(federation, shared.base), model, executor, folder=folder)
            return list(score(folder, shared.suites))
        except (DamagedObjectError, StorageError):
            raise
        except (UserInputError, FusionError) as error:
            return str(error)


def _score(model_dir: Path, suites: Sequence[Suite]) -> list[Outcomes]:
    from coldfuse.evaluation.outcomes import score_folder

    return score_folder(model_dir, suites)


def write_release(federation: Federation, release: ReleaseManifest, folder: Path) -> None:
    """Write a release's files into a folder, verified as they are read, with bounded memory."""
    for name, blob in release.files.items():
        if not is_inside(name):
            raise UserInputError(f"release {release.release} has a file {name[:200]!r}, which is outside of its folder")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        reader = federation.objects.open(blob, release.checks.get(name), what=name)
        with path.open("wb") as file:
            for start in range(0, blob.size_bytes, _COPIED_AT_ONCE):
                file.write(reader.read(start, min(_COPIED_AT_ONCE, blob.size_bytes - start)))
