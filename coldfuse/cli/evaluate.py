"""Scoring models on one's own data."""

from __future__ import annotations

from pathlib import Path

import typer

from coldfuse.api.evaluated import EvaluationResult
from coldfuse.api.evaluating import DataWords, Request, run_evaluation
from coldfuse.api.fusing import Machine
from coldfuse.cli.data_words import file_format_of, named_columns
from coldfuse.cli.options.evaluate import EvaluateOptions, ProtocolOptions, ScoredData
from coldfuse.cli.source import connect
from coldfuse.cli.units import parse_size
from coldfuse.consumer import fetch as fetch_release
from coldfuse.errors import UserInputError
from coldfuse.evaluation.plot import require_picture
from coldfuse.evaluation.settings import ScoringSettings


def evaluate(options: EvaluateOptions) -> None:
    """Score models, and compare the others with the first."""
    if options.plot is not None:
        require_picture(options.plot)
    if options.out is not None and not options.out.absolute().parent.is_dir():
        raise UserInputError(f"--out {options.out}: there is no folder {options.out.parent}; create it")

    def bring(source: str, which: int | str, out: Path) -> None:
        with connect(source, options.connection) as gateway:
            fetch_release(gateway, out, which=which, allow_older=True)

    result = run_evaluation(_request(options), bring, say=lambda line: typer.echo(line, err=True))
    _show(result, options)


def _show(result: EvaluationResult, options: EvaluateOptions) -> None:
    typer.echo(result.as_json() if options.as_json else str(result))
    if options.out is not None:
        result.save(options.out)
    if options.plot is not None:
        result.plot(options.plot)


def _request(options: EvaluateOptions) -> Request:
    protocol, place = options.protocol, options.place
    return Request(
        models=options.models, base=options.base, words=_words(options.data), protocols=protocol.protocol,
        shots=numbers("--shots", protocol.shots) if protocol.shots is not None else (),
        seeds=numbers("--seeds", protocol.seeds), settings=_settings(protocol, options),
        work=place.work, cache=place.cache, cache_bytes=parse_size(place.cache_size),
        machine=Machine(workers=place.workers, use_ray=place.use_ray),
    )  # fmt: skip


def _words(given: ScoredData) -> DataWords:
    return DataWords(
        data=given.data, train=given.train, test=given.test, task=given.task, columns=named_columns(given.columns),
        file_format=file_format_of(given.columns), limit=given.columns.max_examples, num_train=given.train_examples,
        num_test=given.test_examples, suites=given.suite, time_column=given.time_column, num_slices=given.slices,
    )  # fmt: skip


def _settings(protocol: ProtocolOptions, options: EvaluateOptions) -> ScoringSettings:
    return ScoringSettings(
        max_length=protocol.max_length, num_epochs=protocol.epochs, learning_rate=protocol.learning_rate,
        batch_size=protocol.batch_size, threads=options.place.threads, device=options.place.device,
    )  # fmt: skip


def numbers(option: str, text: str) -> list[int]:
    """Return whole numbers that commas separate. Raises `UserInputError` for what is none."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise UserInputError(f"{option} {text}: expected whole numbers, separated by commas")
    return [int(word) for word in words]
