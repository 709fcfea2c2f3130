"""Trials: models × data × protocols × seeds, each scored once, kept, and found again after a kill.

A trial's file is named by the digest of everything that decides it, and written whole or not at all. Whoever asks
again, after a kill or in another evaluation, takes it from there. So the result of an evaluation does not depend on
where its trials ran, in which order, or in how many attempts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol as Shape

import torch

from coldfuse.core.serialization import canonical_json, decode, encode, sha256
from coldfuse.durable import remove_whole, write_whole
from coldfuse.errors import CodecError, UserInputError
from coldfuse.evaluation.protocols import Model, Scores, Scoring, score_model
from coldfuse.evaluation.settings import BY_ANSWERS, BY_HARNESS, Protocol, ScoringSettings
from coldfuse.evaluation.suites import Suite
from coldfuse.evaluation.values import TestScore, Trial
from coldfuse.training.feature_cache import FeatureCache

_LOG = logging.getLogger(__name__)
_LAYOUT = 1
_MOST_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all trials share."""

    models: tuple[Model, ...]
    """Models, the first of which the others are compared with."""
    suites: tuple[Suite, ...]
    """Data sets."""
    protocols: tuple[Protocol, ...]
    """Ways to score."""
    seeds: tuple[int, ...]
    """Seeds of those that draw at random."""
    settings: ScoringSettings
    """What else decides the scores."""
    folder: Path
    """Where trials, and checkpoints of those under way, are kept."""
    cache: FeatureCache
    """Where features of frozen bodies are kept."""

    def protocols_of(self, suite: Suite) -> tuple[Protocol, ...]:
        """Return the protocols by which a data set is scored."""
        if suite.is_harness:
            return (BY_HARNESS,)
        return (BY_ANSWERS,) if suite.is_edit else self.protocols

    def seeds_of(self, protocol: Protocol) -> tuple[int, ...]:
        """Return the seeds of a protocol: one where nothing is random."""
        return self.seeds if protocol.is_random else self.seeds[:1]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which trial: places in the plan's models and data sets, with protocol and seed."""

    model: int
    suite: int
    protocol: Protocol
    seed: int


class Runs(Shape):
    """Calls a function for many items, in any order and place: an executor's `run`."""

    def __call__(
        self, task: Callable[[Plan, tuple[Place, str]], Trial], shared: Plan, items: Sequence[tuple[Place, str]], /
    ) -> Iterator[tuple[int, Trial]]:
        """Yield the index of an item and what came of it, as it is ready."""


def in_turn(
    task: Callable[[Plan, tuple[Place, str]], Trial], shared: Plan, items: Sequence[tuple[Place, str]]
) -> Iterator[tuple[int, Trial]]:
    """Call a function for one item after the other, in this thread: torch's random state is the process's."""
    for index, item in enumerate(items):
        yield index, task(shared, item)


def places(plan: Plan) -> list[Place]:
    """Return all trials of a plan: model by model, so that what is read of one is read once."""
    return [
        Place(model=model, suite=suite, protocol=protocol, seed=seed)
        for model in range(len(plan.models))
        for suite in range(len(plan.suites))
        for protocol in plan.protocols_of(plan.suites[suite])
        for seed in plan.seeds_of(protocol)
    ]


def identities(plan: Plan) -> dict[Place, str]:
    """Return the digest of all that decides each trial."""
    digests = [suite.digest() for suite in plan.suites]
    device = "cuda" if plan.settings.device == "auto" and torch.cuda.is_available() else plan.settings.device
    settings = asdict(plan.settings) | {"device": device}
    return {
        place: sha256(
            canonical_json([
                _LAYOUT, plan.models[place.model].digest, digests[place.suite], asdict(place.protocol),
                place.seed if place.protocol.is_random else 0, settings, str(torch.__version__),
                version("transformers"),
            ])
        )
        for place in places(plan)
    }  # fmt: skip


def run_trials(
    plan: Plan, runs: Runs, *, on_trial: Callable[[int, int, Place], None] = lambda *_: None
) -> dict[Place, Trial]:
    """Run the trials of a plan that are not kept yet, and return all.

    Args:
        plan: What is to be scored.
        runs: Runs them.
        on_trial: Called with how many are done, how many there are in all, and which one it was.

    Raises:
        UserInputError: A model cannot be scored on some data; what was scored before stays kept.
    """
    wanted = identities(plan)
    made = {name: kept for name in set(wanted.values()) if (kept := _read(plan.folder, name)) is not None}
    first = {name: place for place, name in reversed(wanted.items())}  # alike ones are run once
    todo = [(place, name) for place, name in wanted.items() if name not in made and first[name] == place]
    for count, (index, trial) in enumerate(runs(run_trial, plan, todo), start=len(first) - len(todo) + 1):
        place, name = todo[index]
        write_whole(_path(plan.folder, name), _sealed(trial))
        remove_whole(_checkpoint(plan.folder, name))
        made[name] = trial
        on_trial(count, len(first), place)
    return {place: made[name] for place, name in wanted.items()}


def run_trial(plan: Plan, item: tuple[Place, str]) -> Trial:
    """Run one trial; a plain function of plain data, for any process.

    Raises:
        UserInputError: The model cannot be scored on the data; the message names both.
    """
    place, name = item
    model, suite = plan.models[place.model], plan.suites[place.suite]
    scoring = Scoring(settings=plan.settings, cache=plan.cache, checkpoint=_checkpoint(plan.folder, name))
    try:
        scores = score_model(model, suite, place.protocol, seed=place.seed, scoring=scoring)
    except UserInputError as error:
        raise UserInputError(f"{model.name} on {suite.name}, {place.protocol.name}: {error}") from error
    return _trial(name, scores)


def _trial(identity: str, scores: Scores) -> Trial:
    return Trial(
        identity=identity, num_train=scores.num_train, notes=scores.notes,
        scores=tuple(
            TestScore(
                test=test, value=found.value, outcomes=found.outcomes, notes=found.notes, metric=found.metric,
                higher_is_better=found.higher_is_better,
            )
            for test, found in scores.measured.items()
        ),
    )  # fmt: skip


def _path(folder: Path, name: str) -> Path:
    return folder / "trials" / f"{name}.json"


def _checkpoint(folder: Path, name: str) -> Path:
    return folder / "under-way" / f"{name}.safetensors"


def _sealed(trial: Trial) -> bytes:
    """Return a trial's JSON behind its SHA-256, by which a damaged one is found."""
    data = encode(trial)
    return sha256(data).encode() + b"\n" + data


def _read(folder: Path, name: str) -> Trial | None:
    path = _path(folder, name)
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    try:
        trial = decode(Trial, data, what=path.name, digest=digest.decode("ascii", "replace"), limit=_MOST_BYTES)
    except CodecError as error:
        _LOG.warning("%s: damaged (%s); it is scored again", path, error)
        return None
    return trial if trial.identity == name else None
