"""The entry point: the table of the commands, and from errors to one line and an exit status."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated

import typer

from coldfuse import __version__
from coldfuse.cli.command import Command, typer_function
from coldfuse.cli.options.certs import CertsOptions
from coldfuse.cli.options.channels import PromoteOptions, RollbackOptions
from coldfuse.cli.options.compared import RankOptions, SimilarityOptions
from coldfuse.cli.options.consumer import FetchOptions, LineageOptions, ReleasesOptions, StatusOptions
from coldfuse.cli.options.contributor import ContributeOptions
from coldfuse.cli.options.doctor import DoctorOptions
from coldfuse.cli.options.evaluate import EvaluateOptions
from coldfuse.cli.options.evaluator import EvaluatorOptions
from coldfuse.cli.options.experiments import (
    BenchFetchOptions,
    BenchFuseOptions,
    BenchRoundOptions,
    BenchUploadOptions,
    DemoOptions,
    FusionOptions,
)
from coldfuse.cli.options.fuse import FuseOptions, MethodsOptions
from coldfuse.cli.options.history import DiffOptions, PushOptions
from coldfuse.cli.options.operator import (
    AggregatorOptions,
    GatewayOptions,
    InitOptions,
    QuarantineOptions,
    ReadmitOptions,
    ServeOptions,
    SetOptions,
)
from coldfuse.cli.options.paper import PAPER_OPTIONS, PretrainOptions
from coldfuse.cli.options.retention import GcOptions, RetractOptions
from coldfuse.cli.options.simulation import SimulateOptions
from coldfuse.cli.options.statistics import StatisticsOptions
from coldfuse.cli.options.trust import (
    EnrollOptions,
    JoinOptions,
    KeysAddOptions,
    KeysExportOptions,
    KeysRemoveOptions,
    KeysRenewOptions,
    KeysRotateOptions,
    KeysShowOptions,
    KeysSignOptions,
    KeysThresholdOptions,
    MembersOptions,
    RevokeOptions,
    RotateOptions,
)
from coldfuse.cli.options.verify import VerifyOptions
from coldfuse.config import prepare_ray, prepare_training
from coldfuse.durable import advise
from coldfuse.errors import ColdfuseError
from coldfuse.processes import keep_memory_private

_TRY, _OPERATE, _CONTRIBUTE = "Try it", "Operate a federation", "Contribute"
_USE, _ALONE = "Use the model", "Without a federation"

GROUPS = {
    "bench": "Measure this machine against the bound, side by side.",
    "experiment": "The paper's experiments in small, on your own data sets: train, fuse, score, compare.",
    "keys": "Who may sign what: operators, thresholds, other keys.",
}
"""Words that begin several commands, and their help."""

COMMANDS = {
    "demo": Command(
        options=DemoOptions, runs="coldfuse.cli.demo:demo", panel=_TRY, extra="demo", prepare=prepare_training
    ),
    "init": Command(options=InitOptions, runs="coldfuse.cli.init:init", panel=_OPERATE, extra="fuse"),
    "set": Command(options=SetOptions, runs="coldfuse.cli.rules:change", panel=_OPERATE, extra="fuse"),
    "rollback": Command(options=RollbackOptions, runs="coldfuse.cli.moving:rollback", panel=_OPERATE),
    "promote": Command(options=PromoteOptions, runs="coldfuse.cli.moving:promotes", panel=_OPERATE),
    "enroll": Command(options=EnrollOptions, runs="coldfuse.cli.members:enroll", panel=_OPERATE),
    "members": Command(options=MembersOptions, runs="coldfuse.cli.members:members", panel=_OPERATE),
    "revoke": Command(options=RevokeOptions, runs="coldfuse.cli.members:revoke", panel=_OPERATE),
    "keys show": Command(options=KeysShowOptions, runs="coldfuse.cli.keys:show", panel=_OPERATE),
    "keys add": Command(options=KeysAddOptions, runs="coldfuse.cli.keys:add", panel=_OPERATE),
    "keys remove": Command(options=KeysRemoveOptions, runs="coldfuse.cli.keys:remove", panel=_OPERATE),
    "keys threshold": Command(options=KeysThresholdOptions, runs="coldfuse.cli.keys:threshold", panel=_OPERATE),
    "keys renew": Command(options=KeysRenewOptions, runs="coldfuse.cli.keys:renew", panel=_OPERATE),
    "keys rotate": Command(options=KeysRotateOptions, runs="coldfuse.cli.keys:rotate", panel=_OPERATE),
    "keys sign": Command(options=KeysSignOptions, runs="coldfuse.cli.keys:sign", panel=_OPERATE),
    "keys export": Command(options=KeysExportOptions, runs="coldfuse.cli.keys:export", panel=_OPERATE),
    "quarantine": Command(
        options=QuarantineOptions, runs="coldfuse.cli.quarantine:quarantine", panel=_OPERATE
    ),
    "readmit": Command(options=ReadmitOptions, runs="coldfuse.cli.quarantine:readmit", panel=_OPERATE),
    "retract": Command(
        options=RetractOptions, runs="coldfuse.cli.retract:take_out", panel=_OPERATE, extra="fuse",
        at_once=("numba", "psutil"),
    ),
    "gc": Command(options=GcOptions, runs="coldfuse.cli.gc:gc", panel=_OPERATE),
    "serve": Command(
        options=ServeOptions, runs="coldfuse.cli.serve:serve", panel=_OPERATE, extra="aggregator", at_once=("ray",)
    ),
    "gateway": Command(options=GatewayOptions, runs="coldfuse.cli.gateway:gateway", panel=_OPERATE),
    "aggregator": Command(
        options=AggregatorOptions, runs="coldfuse.cli.aggregator:aggregator", panel=_OPERATE, extra="aggregator",
        at_once=("ray", "numba", "psutil"), prepare=prepare_ray,
    ),
    "certs": Command(options=CertsOptions, runs="coldfuse.cli.certs:certs", panel=_OPERATE),
    "doctor": Command(options=DoctorOptions, runs="coldfuse.cli.doctor:doctor", panel=_OPERATE),
    "join": Command(options=JoinOptions, runs="coldfuse.cli.joining:join", panel=_CONTRIBUTE),
    "rotate": Command(options=RotateOptions, runs="coldfuse.cli.joining:rotate", panel=_CONTRIBUTE),
    "contribute": Command(
        options=ContributeOptions, runs="coldfuse.cli.contributor:contribute", panel=_CONTRIBUTE, extra="contributor",
        at_once=("torch", "transformers"), prepare=prepare_training,
    ),
    "evaluator": Command(
        options=EvaluatorOptions, runs="coldfuse.cli.evaluator:evaluator", panel=_CONTRIBUTE, extra="contributor",
        at_once=("torch", "transformers"), prepare=prepare_training,
    ),
    "fetch": Command(options=FetchOptions, runs="coldfuse.cli.consumer:fetch", panel=_USE),
    "status": Command(options=StatusOptions, runs="coldfuse.cli.consumer:status", panel=_USE),
    "releases": Command(options=ReleasesOptions, runs="coldfuse.cli.consumer:releases", panel=_USE),
    "verify": Command(options=VerifyOptions, runs="coldfuse.cli.verify:verify", panel=_USE),
    "lineage": Command(options=LineageOptions, runs="coldfuse.cli.lineage:lineage", panel=_USE),
    "diff": Command(options=DiffOptions, runs="coldfuse.cli.diff:diff", panel=_USE, extra="fuse"),
    "push": Command(
        options=PushOptions, runs="coldfuse.cli.push:push", panel=_USE, extra="fuse", at_once=("huggingface_hub",)
    ),
    "fuse": Command(options=FuseOptions, runs="coldfuse.cli.fuse:fuse", panel=_ALONE, extra="fuse"),
    "methods": Command(options=MethodsOptions, runs="coldfuse.cli.methods:methods", panel=_ALONE, extra="fuse"),
    "evaluate": Command(
        options=EvaluateOptions, runs="coldfuse.cli.evaluate:evaluate", panel=_ALONE, extra="evaluate",
        prepare=prepare_training,
    ),
    "statistics": Command(
        options=StatisticsOptions, runs="coldfuse.cli.statistics:statistics", panel=_ALONE, extra="contributor",
        prepare=prepare_training,
    ),
    "rank": Command(
        options=RankOptions, runs="coldfuse.cli.rank:rank", panel=_ALONE, extra="evaluate",
        prepare=prepare_training,
    ),
    "similarity": Command(
        options=SimilarityOptions, runs="coldfuse.cli.similarity:similarity", panel=_ALONE, extra="evaluate",
        prepare=prepare_training,
    ),
    "bench fuse": Command(options=BenchFuseOptions, runs="coldfuse.cli.bench:fuse", panel=_ALONE, extra="fuse"),
    "bench upload": Command(options=BenchUploadOptions, runs="coldfuse.cli.bench:upload", panel=_ALONE, extra="fuse"),
    "simulate": Command(
        options=SimulateOptions, runs="coldfuse.cli.simulate:simulate", panel=_OPERATE, extra="aggregator",
        prepare=prepare_training,
    ),
    "bench fetch": Command(options=BenchFetchOptions, runs="coldfuse.cli.bench:fetch", panel=_ALONE, extra="fuse"),
    "bench round": Command(
        options=BenchRoundOptions, runs="coldfuse.cli.bench:round_", panel=_ALONE, extra="aggregator"
    ),
    **{
        f"experiment {name}": Command(
            options=options, runs="coldfuse.cli.paper:experiment", panel=_ALONE, extra="demo", prepare=prepare_training
        )
        for name, options in PAPER_OPTIONS.items()
    },
    "experiment pretrain": Command(
        options=PretrainOptions, runs="coldfuse.cli.paper:pretrain", panel=_ALONE, extra="demo",
        prepare=prepare_training,
    ),
    "experiment fusion": Command(
        options=FusionOptions, runs="coldfuse.cli.experiment:fusion", panel=_ALONE, extra="demo",
        prepare=prepare_training,
    ),
}  # fmt: skip
"""The commands by the words that call them, in the order of `coldfuse --help`."""

app = typer.Typer(
    name="coldfuse",
    help="Many parties improve one shared pretrained model; their data never leaves them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Every command takes [bold]--debug[/bold] (the traceback of an error) and [bold]--help[/bold].",
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to standard error.")] = False,
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


def _add_commands() -> None:
    groups = {
        name: typer.Typer(help=text, no_args_is_help=True, callback=lambda: None) for name, text in GROUPS.items()
    }
    for words, command in COMMANDS.items():
        group, _, name = words.rpartition(" ")
        function = typer_function(words, command)
        if group:
            groups[group].command(name)(function)
        else:
            app.command(name, rich_help_panel=command.panel)(function)
    for name, group_app in groups.items():
        panel = next(command.panel for words, command in COMMANDS.items() if words.startswith(f"{name} "))
        app.add_typer(group_app, name=name, rich_help_panel=panel)


_add_commands()


def main() -> None:
    """Run a command. Exit status: 0 done, 1 could not (one line says why), 2 wrong usage, 128 + its number a signal.

    An aggregator that would end alike however often it is started ends with 78, for whoever starts it again.
    SIGTERM ends it as Ctrl-C does, so that nothing half made is left; commands that serve take both for themselves.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name in letters that the terminal lacks ends nothing
    before = signal.signal(signal.SIGTERM, _on_signal)
    try:
        _run()
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _run() -> None:
    debug = "--debug" in sys.argv  # wherever it stands
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if not debug and sys.argv[1:2] != ["gateway"]:  # that one holds no private key; most commands do
        keep_memory_private()
    try:
        app()
    except ColdfuseError as error:
        _end(str(error), debug=debug)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OSError as error:  # a disk, a network or a permission, whoever met it
        _end(_explain(error), debug=debug)
    except MemoryError:
        _end("there is too little memory for this; free some, or give the process more", debug=debug)
    except Exception as error:  # noqa: BLE001  # the outermost loop: a bug must not look like a user's mistake
        _end(f"unexpected {type(error).__name__}: {error}; this is a bug, --debug shows where", debug=debug)


def _explain(error: OSError) -> str:
    if error.filename is None and not _has_folder():
        return "the current folder has been removed; change to another one"
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    advice = (advise(error) or "").rpartition("; ")[2]  # the reason before it is the system's own, in other words
    return f"{place}{error.strerror or error}{f'; {advice}' if advice else ''}"


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _end(message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"coldfuse: {' '.join(message.split())}\n")
    raise SystemExit(1)
