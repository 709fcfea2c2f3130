"""The evaluator's command."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import typer

from coldfuse.api.opening import as_named
from coldfuse.cli.options.evaluator import EvaluatorOptions
from coldfuse.cli.source import connect
from coldfuse.cli.suites import in_words_of_suites, read_suites
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.names import shown
from coldfuse.core.words import plural
from coldfuse.errors import UserInputError
from coldfuse.evaluator.folder import EvaluatorFolder
from coldfuse.evaluator.node import Evaluator, require_evaluator
from coldfuse.gateway import Gateway
from coldfuse.processes import stop_on_signals
from coldfuse.transport.address import parse_address


def evaluator(options: EvaluatorOptions) -> None:
    """Answer for candidates until stopped."""
    parse_address(options.address)
    suites = read_suites(options.suite)  # before anybody is asked
    stop = stop_on_signals()
    with connect(options.address, options.connection, identify=as_named(options.name)) as gateway:
        if not isinstance(gateway, TrustedGateway) or gateway.identity is None:
            raise UserInputError(
                f"{options.address}: this federation has no root, and so no evaluators whose word counts"
            )
        identity = gateway.identity
        require_evaluator(gateway, identity)
        folder = EvaluatorFolder(options.work or Path(".coldfuse") / f"{identity.name}-evaluator")
        _hang_up_on(stop, gateway)
        with folder.held():
            who = shown(identity.name, identity.display_name)
            sizes = ", ".join(f"{suite.name} ({plural(suite.num_tests, 'example')})" for suite in suites)
            _say(f"evaluating as {who}: {sizes}")
            node = Evaluator(
                gateway=gateway, identity=identity, suites=suites, folder=folder, say=_Once(), noise=options.noise
            )
            try:
                node.run(stop, candidates=options.candidates)
            except UserInputError as error:  # not even the base can be scored on a suite
                raise UserInputError(in_words_of_suites(str(error))) from error


class _Once:
    """Says a line, unless it was the last that was said."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, line: str) -> None:
        if line != self._last:
            _say(line)
        self._last = line


def _say(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()


def _hang_up_on(stop: threading.Event, gateway: Gateway) -> None:
    """Cut off the call that runs when the evaluator is asked to stop: it may wait for minutes."""

    def wait() -> None:
        stop.wait()
        gateway.close()

    threading.Thread(target=wait, name="hang up", daemon=True).start()
