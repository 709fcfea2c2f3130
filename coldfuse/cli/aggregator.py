"""Fuse, round after round."""

from __future__ import annotations

import sys

import typer

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.cli.events import describe
from coldfuse.cli.options.operator import AggregatorOptions
from coldfuse.cli.source import start_on
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.engine.execution import ray_executor
from coldfuse.processes import stop_on_signals


def aggregator(options: AggregatorOptions) -> None:
    """Screen, fuse and publish until stopped."""
    store, fusing = options.store, options.fusing
    federation = start_on(store)
    memory_bytes = parse_size(fusing.memory) if fusing.memory else None
    poll_s = 2.0 if "://" in store else 0.5  # every look at S3 is paid for
    settings = AggregatorSettings(rounds=options.rounds, poll_s=poll_s, lease_ttl_s=parse_duration(fusing.lease))
    stop = stop_on_signals()
    with ray_executor(fusing.ray_address, num_cpus=fusing.workers, memory_bytes=memory_bytes) as executor:
        stop_on_signals(stop)  # Ray has taken SIGTERM: with its handler the command would end in a trace
        typer.echo("aggregating")
        for number, event in serve_rounds(federation, executor, settings, stop=stop, announce=_say):
            for line in describe(event):
                _say(f"round {number}: {line}")


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()  # a journal or a file shows it when it happens
