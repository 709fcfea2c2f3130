"""Fuse, round after round: a process that does it, and one beside it that starts it again."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.cli.channel_settings import check_telling
from coldfuse.cli.options.channels import Telling
from coldfuse.cli.options.operator import AggregatorOptions, Fusing, Holding
from coldfuse.cli.serving import with_keys
from coldfuse.cli.source import start_on
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.processes import run_again


def aggregator(options: AggregatorOptions) -> None:
    """Screen, fuse and publish until stopped; Ray may take its process with it, so that another one sees to that."""
    # first of all: what is wrong with a store or a key is one line, not processes that fail
    federation = start_on(options.store, root=options.holding.root)
    federation = with_keys(federation, options.holding.keys)
    check_fusing(options.fusing)
    check_telling(options.telling)
    if options.unsupervised:
        from coldfuse.cli.leading import lead

        lead(federation, options)
        return
    until = options.until
    if options.rounds is not None:  # counted from now on, however often the process is started again
        until = federation.channel("latest").newest + options.rounds
    arguments = aggregator_arguments(options.store, options.fusing, options.holding, options.telling, until=until)
    run_again("aggregator", arguments)


def check_fusing(fusing: Fusing) -> None:
    """Raise `UserInputError` if a size, a duration or a suite is none."""
    parse_duration(fusing.lease)
    if fusing.memory:
        parse_size(fusing.memory)
    if fusing.suite:
        from coldfuse.cli.suites import read_suites

        read_suites(fusing.suite)


def aggregator_arguments(
    store: str, fusing: Fusing, holding: Holding, telling: Telling, *, until: int | None = None
) -> list[str]:
    """Return the command line of an aggregator that somebody else starts again."""
    given = words({
        "--ray-address": fusing.ray_address, "--workers": fusing.workers, "--memory": fusing.memory,
        "--lease": fusing.lease, "--until": until, "--keys": holding.keys, "--root": holding.root,
        "--webhook-secret": telling.webhook_secret,
    })  # fmt: skip
    given += ["--webhook-private"] if telling.webhook_private else []
    suites = [word for suite in fusing.suite for word in ("--suite", suite)]
    return ["aggregator", store, *given, *suites, "--unsupervised"]


def words(given: Mapping[str, object]) -> list[str]:
    """Return options and their values as words of a command line; those without a value are left out."""
    return [word for option, value in given.items() if value is not None for word in (option, str(value))]
