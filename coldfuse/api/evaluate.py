"""`coldfuse.evaluate`: light to import, whatever is installed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from coldfuse.extras import requiring

if TYPE_CHECKING:
    from coldfuse.api.evaluated import EvaluationResult

Place = str | os.PathLike[str]


def evaluate(  # noqa: PLR0913 - every setting of an evaluation, by keyword
    models: Place | Sequence[Place],
    data: Place | Sequence[Place] = (),
    *,
    train: Sequence[Place] = (),
    test: Sequence[Place] = (),
    suites: Sequence[str] = (),
    task: str = "text-classification",
    columns: Mapping[str, str] | None = None,
    protocols: Sequence[Literal["probe", "fine-tuned", "perplexity"]] = (),
    shots: Sequence[int] = (),
    seeds: Sequence[int] = (0, 1, 2),
    base: Place | None = None,
    root: str | None = None,
    time_column: str | None = None,
    slices: int = 4,
    num_train: int | None = None,
    num_test: int | None = None,
    max_length: int = 128,
    epochs: int | None = None,
    learning_rate: float = 5e-5,
    batch_size: int = 32,
    threads: int = 1,
    device: str = "auto",
    work: Place | None = None,
    cache: Place | None = None,
    cache_bytes: int = 2 << 30,
    use_ray: bool = False,
    workers: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> EvaluationResult:
    """Score models on data, and compare the others with the first on the same examples.

    Killed and called again it goes on where it was; the same models, data and settings give the same result.

    >>> evaluate("model")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    coldfuse.errors.UserInputError: no data: name what models are scored on with --data FILE, ...

    Args:
        models: A folder, a hub id, a release of a federation (`STORE@7`, `HOST:PORT@stable`), or a delta or adapter on
            `base`; or several.
        data: Files or folders, each a data set: a share is set apart as test, unless a folder has train and test files.
        train: Files that are trained on and tested on those of `test`, out of distribution.
        test: One for each of `train`.
        suites: Tasks of lm-evaluation-harness, `lm-eval:TASK`, by name or YAML file; they need the extra `lm-eval`. Or
            files of edits, `edit:FILE`: how many answers are right of the edit, its paraphrases, and what must stay.
        task: What the data are of, as in `coldfuse contribute`.
        columns: Column of each role, where it is not found by itself: `{"text": "body"}`.
        protocols: `probe` (a new head on the frozen body), `fine-tuned`, or `perplexity`; the task's usual by default.
        shots: Numbers of labelled examples to train on, another draw for each seed; all by default.
        seeds: Seeds of draws and training.
        base: Model that deltas and adapters were made on.
        root: Fingerprint of the federation, where its releases are named.
        time_column: Column that says when an example is from: trained on the earliest slice, tested on later ones.
        slices: Slices of time.
        num_train: Examples that are trained on, at most.
        num_test: Examples of a test set, at most.
        max_length: Tokens of a text that are read; a language model's window.
        epochs: Epochs of fine-tuning; 3 by default, 20 over few labels.
        learning_rate: Highest learning rate of fine-tuning.
        batch_size: Examples of a step.
        threads: Processor threads of a trial: the same number gives the same bytes, on any number of workers.
        device: cpu, cuda or auto.
        work: Folder in which what was scored is kept; one of this user's own by default.
        cache: Folder of features of frozen bodies; in the work folder by default.
        cache_bytes: Bytes that these take, at most.
        use_ray: True to run models × data × seeds in parallel on Ray; the result is the same.
        workers: Ray workers; one a processor by default.
        progress: Called with a line for people at each trial.

    Raises:
        MissingExtraError: The libraries that scoring needs are not installed.
        UserInputError: A model or the data cannot be had, or a model cannot be scored on such data.
        ColdfuseError: As `connect` and `fetch`, where a release is named.
    """
    with requiring("coldfuse.evaluate", "evaluate"):
        from coldfuse.api import evaluating  # noqa: PLC0415 - torch comes with the first evaluation
        from coldfuse.api.connect import fetch  # noqa: PLC0415
        from coldfuse.api.fusing import Machine  # noqa: PLC0415
        from coldfuse.evaluation.settings import ScoringSettings  # noqa: PLC0415

        words = evaluating.DataWords(
            data=_names(data), train=_names(train), test=_names(test), task=task, columns=columns or {},
            time_column=time_column, num_slices=slices, num_train=num_train, num_test=num_test, suites=suites,
        )  # fmt: skip
        settings = ScoringSettings(
            max_length=max_length, num_epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
            threads=threads, device=device,
        )  # fmt: skip
        request = evaluating.Request(
            models=_names(models), base=None if base is None else os.fspath(base), words=words, protocols=protocols,
            shots=shots, seeds=seeds, settings=settings, work=None if work is None else Path(work),
            cache=None if cache is None else Path(cache), cache_bytes=cache_bytes,
            machine=Machine(workers=workers, use_ray=use_ray),
        )  # fmt: skip

        def bring(source: str, which: int | str, out: Path) -> None:
            release, channel = (which, "latest") if isinstance(which, int) else (None, which)
            fetch(source, out, root=root, release=release, channel=channel, allow_older=True)

        return evaluating.run_evaluation(request, bring, say=progress or (lambda _: None))


def _names(given: Place | Sequence[Place]) -> list[str]:
    return [os.fspath(each) for each in ([given] if isinstance(given, str | os.PathLike) else given)]
