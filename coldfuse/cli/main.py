"""The entry point: puts the commands together, and turns errors into one line and an exit status."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from types import FrameType

import typer

from coldfuse import __version__
from coldfuse.cli import bench, consumer, contributor, demo, experiment, fuse, operator, recipe, statistics
from coldfuse.errors import ColdfuseError

app = typer.Typer(
    name="coldfuse",
    help="Many parties improve one shared pretrained model; their data never leaves them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Every command takes [bold]--debug[/bold] (the traceback of an error) and [bold]--help[/bold].",
)
app.command(rich_help_panel="Try it")(demo.demo)
app.command(rich_help_panel="Operate a federation")(operator.init)
app.command(rich_help_panel="Operate a federation")(operator.serve)
app.command(rich_help_panel="Operate a federation")(operator.gateway)
app.command(rich_help_panel="Operate a federation")(operator.aggregator)
app.command(rich_help_panel="Contribute")(contributor.contribute)
app.command(rich_help_panel="Use the model")(consumer.fetch)
app.command(rich_help_panel="Use the model")(consumer.status)
app.command(rich_help_panel="Use the model")(consumer.releases)
app.command(rich_help_panel="Without a federation")(fuse.fuse)
app.command(rich_help_panel="Without a federation")(recipe.methods)
app.command(rich_help_panel="Without a federation")(statistics.statistics)
app.add_typer(bench.app, name="bench", rich_help_panel="Without a federation")
app.add_typer(experiment.app, name="experiment", rich_help_panel="Without a federation")


@app.callback(invoke_without_command=True)
def options(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Log what happens to standard error."),
) -> None:
    """Set up what all commands share."""
    if version:
        typer.echo(f"coldfuse {__version__}")
        raise typer.Exit
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def main() -> None:
    """Run a command. Exit status: 0 done, 1 could not (one line says why), 2 wrong usage, 128 + its number a signal.

    SIGTERM ends it as Ctrl-C does, so that nothing half made is left; commands that serve take both for themselves.
    """
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        _run()
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _run() -> None:
    debug = "--debug" in sys.argv  # wherever it stands
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except ColdfuseError as error:
        _end(str(error), debug=debug)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:  # noqa: BLE001  # the outermost loop: a bug must not look like a user's mistake
        _end(f"unexpected {type(error).__name__}: {error}; this is a bug, --debug shows where", debug=debug)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _end(message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"coldfuse: {' '.join(message.split())}\n")
    raise SystemExit(1)
