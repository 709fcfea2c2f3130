"""Evaluations from what a user names to values: the one way that command and API go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from coldfuse.api.candidates import Candidates, Fetch
from coldfuse.api.evaluated import EvaluationResult
from coldfuse.api.fusing import WITHOUT_RAY, Machine
from coldfuse.config import home_folder, prepare_ray
from coldfuse.consumer.folder import hold
from coldfuse.core.words import printable
from coldfuse.data.tables import FileFormat
from coldfuse.engine.execution import ray_executor
from coldfuse.errors import UserInputError
from coldfuse.evaluation.protocols import Model, require_device
from coldfuse.evaluation.report import report
from coldfuse.evaluation.settings import Protocol, ScoringSettings, protocols_for
from coldfuse.evaluation.suites import (
    EDIT_PREFIX,
    Reading,
    Suite,
    distinct_names,
    read_edits,
    read_harness,
    read_pair,
    read_slices,
    read_suite,
)
from coldfuse.evaluation.trials import Place, Plan, Runs, in_turn, run_trials
from coldfuse.training.feature_cache import FeatureCache
from coldfuse.training.tasks import DEFAULT_TASK, find_task

Say = Callable[[str], None]
"""say(line): told what is read and done, for people."""

CACHE_BYTES = 2 << 30
"""Bytes of kept features, at most, where nobody says."""


@dataclass(frozen=True, kw_only=True)
class DataWords:
    """Which data models are scored on, and how they are read."""

    data: Sequence[str] = ()
    """Files and folders, one data set each."""
    train: Sequence[str] = ()
    """Files that are trained on, out of distribution; one for each of `test`."""
    test: Sequence[str] = ()
    """Files that are tested on."""
    task: str = DEFAULT_TASK
    """Line of the task."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of each role that the user names."""
    file_format: FileFormat | None = None
    """Separator and encoding of text files; None: they are found."""
    limit: int | None = None
    """Examples that are read of a file, at most."""
    num_train: int | None = None
    """Examples that are trained on, at most."""
    num_test: int | None = None
    """Examples of a test set, at most."""
    suites: Sequence[str] = ()
    """Tasks of lm-evaluation-harness, as `lm-eval:TASK`, and files of edits, as `edit:FILE`."""
    time_column: str | None = None
    """Column that says when an example is from, to cut the data by it; None: they are not cut."""
    num_slices: int = 4
    """Slices of time."""

    def __post_init__(self) -> None:
        """Refuse to read nothing."""
        counts = {"max-examples": self.limit, "num-train": self.num_train, "num-test": self.num_test}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise UserInputError(f"--{name} {count}: expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class Request:
    """An evaluation as it is asked for."""

    models: Sequence[str]
    """Models, as the user names them; the others are compared with the first."""
    base: str | None = None
    """Base of deltas and adapters."""
    words: DataWords
    """Data."""
    protocols: Sequence[str] = ()
    """Names of protocols; none for the task's usual."""
    shots: Sequence[int] = ()
    """Numbers of labels; none for all examples."""
    seeds: Sequence[int] = (0, 1, 2)
    """Seeds of what is random."""
    settings: ScoringSettings = field(default_factory=ScoringSettings)
    """What else decides the scores."""
    work: Path | None = None
    """Folder in which trials, fetched releases and features are kept; None: one of this user's own."""
    cache: Path | None = None
    """Folder of the features; None: in the work folder."""
    cache_bytes: int = CACHE_BYTES
    """Bytes that features take, at most."""
    machine: Machine = field(default_factory=lambda: Machine(workers=1))
    """Where trials run."""


def run_evaluation(request: Request, fetch: Fetch, *, say: Say = lambda _: None) -> EvaluationResult:
    """Score models on data, or go on with it where an earlier call was killed.

    Args:
        request: What is asked for.
        fetch: Brings a release of a federation.
        say: Told what is read and done.

    Raises:
        UserInputError: A model or the data cannot be had, or a model cannot be scored on such data.
    """
    work = (request.work or home_folder() / "evaluation").absolute()
    task, words = find_task(request.words.task), request.words
    protocols = protocols_for(task, tuple(request.protocols), tuple(request.shots))
    _require(request)
    with TemporaryDirectory(prefix="coldfuse-evaluate-") as scratch:
        suites = _suites(words, protocols, Path(scratch))
    for suite in suites:
        for note in suite.notes:
            say(f"data: {note}")
    with hold(work, hint="another evaluation is at work there; wait for it, or give another folder with --work"):
        models = Candidates(fetch=fetch, folder=work / "models", base=request.base).find(request.models)
        plan = _plan(request, models, suites, protocols, work)
        with _runs(request.machine, request.settings.device) as runs:
            trials = run_trials(plan, runs, on_trial=_progress(plan, say))
    return EvaluationResult.model_validate(report(plan, trials).model_dump())


def _require(request: Request) -> None:
    if not request.models or not all(request.models):
        raise UserInputError("no model: name one or several that are to be scored")
    require_device(request.settings.device)
    if not request.seeds or len(set(request.seeds)) < len(request.seeds):
        raise UserInputError("seeds: expected different numbers, one or more")


def _plan(
    request: Request, models: tuple[Model, ...], suites: tuple[Suite, ...], protocols: tuple[Protocol, ...], work: Path
) -> Plan:
    cache = FeatureCache(folder=(request.cache or work / "features").absolute(), max_bytes=request.cache_bytes)
    return Plan(
        models=models, suites=suites, protocols=protocols, seeds=tuple(request.seeds), settings=request.settings,
        folder=work, cache=cache,
    )  # fmt: skip


def _suites(words: DataWords, protocols: Sequence[Protocol], scratch: Path) -> tuple[Suite, ...]:
    if len(words.train) != len(words.test):
        raise UserInputError(
            f"--train, --test: expected one to test on for each to train on, got {len(words.train)} and "
            f"{len(words.test)}"
        )
    if not words.data and not words.train and not words.suites:
        raise UserInputError("no data: name what models are scored on with --data FILE, or --train FILE --test FILE")
    if words.time_column is not None and words.train:
        raise UserInputError("--time-column is for --data; leave --train and --test out")
    reading = Reading(
        task=words.task, columns=words.columns, file_format=words.file_format, limit=words.limit,
        num_train=words.num_train, num_test=words.num_test,
        trains=any(protocol.kind != "perplexity" for protocol in protocols),
    )  # fmt: skip
    suites = [_own(words, name, reading, scratch / str(number)) for number, name in enumerate(words.data)]
    suites += [read_pair(train, test, reading) for train, test in zip(words.train, words.test, strict=True)]
    suites += [
        (read_edits if name.startswith(EDIT_PREFIX) else read_harness)(name, limit=words.num_test)
        for name in words.suites
    ]
    names = distinct_names([printable(suite.name)[:100] for suite in suites])
    return tuple(suite.called(name) for suite, name in zip(suites, names, strict=True))


def _own(words: DataWords, data: str, reading: Reading, scratch: Path) -> Suite:
    if words.time_column is None:
        return read_suite(data, reading)
    return read_slices(data, reading, column=words.time_column, num_slices=words.num_slices, scratch=scratch)


@contextmanager
def _runs(machine: Machine, device: str) -> Iterator[Runs]:
    """Yield what runs trials: one after the other here, or in parallel on Ray."""
    if not machine.use_ray:
        yield in_turn
        return
    prepare_ray()
    with ray_executor(
        None, num_cpus=machine.workers, device="cuda" if device.startswith("cuda") else "cpu", instead=WITHOUT_RAY
    ) as executor:
        yield executor.run


def _progress(plan: Plan, say: Say) -> Callable[[int, int, Place], None]:
    """Return what says how far an evaluation is, and how long the rest may take."""
    began_s, begun_with = time.monotonic(), [-1]

    def on_trial(done: int, total: int, place: Place) -> None:
        if begun_with[0] < 0:
            begun_with[0] = done - 1
            if done > 1:
                say(f"kept from before: {done - 1} of {total}")
        each_s = (time.monotonic() - began_s) / (done - begun_with[0])
        seed = f", seed {place.seed}" if place.protocol.is_random else ""
        say(
            f"{done} of {total}: {plan.models[place.model].name} on {plan.suites[place.suite].name}, "
            f"{place.protocol.name}{seed}; about {each_s * (total - done):.0f} s left"
        )

    return on_trial
