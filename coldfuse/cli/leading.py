"""The process that leads: takes the lease, screens, fuses and publishes."""

from __future__ import annotations

import os
import sys
import threading

import typer

from coldfuse.aggregator.examining import SuiteExaminer
from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.aggregator.watchdog import Watchdog
from coldfuse.cli.channel_settings import outgoing_of
from coldfuse.cli.events import describe
from coldfuse.cli.options.operator import AggregatorOptions
from coldfuse.cli.serving import say_who_may
from coldfuse.cli.suites import in_words_of_suites, read_suites
from coldfuse.cli.units import parse_duration, parse_size
from coldfuse.engine.execution import ray_executor
from coldfuse.errors import ColdfuseError, NotAllowedError, UserInputError
from coldfuse.processes import EX_CONFIG, EX_TEMPFAIL, stop_on_signals
from coldfuse.registry.federation import Federation

_LOOK_S = 5.0
"""Seconds between two looks at the root; each is one question to the store."""

_INSTEAD_OF_STARTING = "give fewer --workers, or join a Ray that runs already with --ray-address"


def lead(federation: Federation, options: AggregatorOptions) -> None:
    """Screen, fuse and publish until stopped.

    Raises:
        SystemExit: The settings do not fit this federation; it has said why.
    """
    fusing = options.fusing
    poll_s = 2.0 if "://" in options.store else 0.2  # every look at S3 is paid for
    settings = AggregatorSettings(
        rounds=options.rounds, until=options.until, poll_s=poll_s, lease_ttl_s=parse_duration(fusing.lease),
        examiner=SuiteExaminer(read_suites(fusing.suite)) if fusing.suite else None,
        outgoing=outgoing_of(options.telling),
    )  # fmt: skip
    stop, watchdog = stop_on_signals(), Watchdog()
    over = watchdog.guard(_give_up)
    memory_bytes = parse_size(fusing.memory) if fusing.memory else None
    try:
        with ray_executor(
            fusing.ray_address, num_cpus=fusing.workers, memory_bytes=memory_bytes, instead=_INSTEAD_OF_STARTING
        ) as executor:
            stop_on_signals(stop)  # Ray has taken SIGTERM: with its handler the command would end in a trace
            typer.echo("aggregating")
            say_who_may(federation, options.store)
            _say_of_gate(federation, options)
            replaced = end_once_replaced(federation, stop, poll_s=_LOOK_S)
            events = serve_rounds(federation, executor, settings, stop=stop, announce=_say, watchdog=watchdog)
            for number, event in events:
                for line in describe(event):
                    _say(f"round {number}: {line}")
            if replaced.is_set():
                raise SystemExit(EX_TEMPFAIL)
    except UserInputError as error:
        sys.stderr.write(f"coldfuse: {' '.join(in_words_of_suites(str(error)).split())}\n")
        raise SystemExit(EX_CONFIG) from error
    finally:
        over.set()


def _say_of_gate(federation: Federation, options: AggregatorOptions) -> None:
    """Say once where suites and the federation's rules do not go together."""
    settings, has_suites = federation.settings, bool(options.fusing.suite)
    if has_suites and not settings.asks_suites:
        typer.echo(
            f"coldfuse: this federation has no gate, so --suite is not asked: coldfuse set {options.store} --gate",
            err=True,
        )
    if not has_suites and settings.weighting not in (None, "none"):
        typer.echo(
            f"coldfuse: this federation weighs by score ({settings.weighting}), and there is no --suite to score on: "
            "all contributions count as ever",
            err=True,
        )


def end_once_replaced(federation: Federation, stop: threading.Event, *, poll_s: float) -> threading.Event:
    """Set `stop`, and the event that is returned, once the root names another key than this aggregator's.

    Nobody believes what the old one has signed from then on, so the next process must not wait until there is
    something to write: it signs what there is anew.
    """
    replaced = threading.Event()

    def watch() -> None:
        while not stop.wait(poll_s):
            try:
                federation.require_signer()
            except NotAllowedError as error:
                sys.stderr.write(f"coldfuse: {error}; this process ends, to be started again with the new key\n")
                replaced.set()
                stop.set()
            except ColdfuseError:
                continue  # who leads meets the same, and says it

    threading.Thread(target=watch, name="key", daemon=True).start()
    return replaced


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()  # a journal or a file shows it when it happens


def _give_up(quiet_s: float) -> None:
    """End at once: what hangs in a call to the system or to Ray cannot be woken up."""
    sys.stderr.write(f"coldfuse: nothing has moved here for {quiet_s:.0f} s; this process ends, to be started again\n")
    sys.stderr.flush()
    os._exit(EX_TEMPFAIL)
