"""Options of who evaluates candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coldfuse.cli.options.shared import Connection


@dataclass(frozen=True, kw_only=True)
class EvaluatorOptions:
    """Say of every model that a round has fused, before it is published, what it gets right of private examples.

    Examples never leave: two counts a suite do (right only before, right only after), signed. The operator enrolls you
    with coldfuse enroll STORE NAME --role evaluator.

    Example: coldfuse evaluator gateway.example.org:7700 --suite mood=train.csv,test.csv
    """

    address: Annotated[str, typer.Argument(help="The gateway, HOST:PORT.", show_default=False)]
    suite: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=TRAIN,TEST",
            help="Private examples: NAME=TRAIN,TEST (a linear probe is fitted on the first, and models are compared on "
            "the second), NAME=FILE (halves of it), or NAME:TASK=FILE for another task than text-classification. May "
            "be repeated. What several evaluators call by one name is taken together.",
            show_default=False,
        ),
    ]
    name: Annotated[
        str | None, typer.Option(help="Your name in the federation, where you have joined it under several.")
    ] = None
    noise: Annotated[
        float,
        typer.Option(
            min=0, help="Scale of the noise on every count, in examples, if the federation's rules ask for less."
        ),
    ] = 0.0
    candidates: Annotated[
        int | None, typer.Option(min=1, help="End after so many candidates; until stopped by default.")
    ] = None
    work: Annotated[
        Path | None, typer.Option(help="Folder for what was answered; .coldfuse/NAME-evaluator by default.")
    ] = None
    connection: Connection = field(default_factory=Connection)
