"""What was read from private data, shown before anything is done with it, alike in every command that reads some."""

from __future__ import annotations

import json
import sys
from typing import TypeVar

import typer

from coldfuse.contributor.events import NodeEvent
from coldfuse.training.tasks.task import Examples

E = TypeVar("E", bound=Examples)


def show_data(dataset: E, *, what: str = "data", as_events: bool = False, err: bool = False) -> E:
    """Print a data set's report and return the data set.

    Args:
        dataset: What was read.
        what: What it is for: data, or validation.
        as_events: As one line of JSON, for commands whose output is one event a line.
        err: On standard error, for commands whose output is one JSON document.
    """
    report = dataset.report
    if report is None:
        return dataset
    lines = report.lines()
    if as_events:
        event = NodeEvent(phase=what, base_release=None, message="; ".join(lines))
        typer.echo(json.dumps(event.as_json() | report.as_json()))
        return dataset
    encoding = (sys.stderr if err else sys.stdout).encoding or "utf-8"
    for line in lines:  # a terminal or log that has not all letters gets the others escaped
        typer.echo(f"{what}: {line}".encode(encoding, "backslashreplace").decode(encoding), err=err)
    return dataset
