"""Say what is damaged in a store, or what is wrong with this machine."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import typer

from coldfuse import __version__
from coldfuse.cli.options.doctor import DoctorOptions
from coldfuse.core.words import plural
from coldfuse.doctor.examine import Examination
from coldfuse.doctor.findings import Finding, Report
from coldfuse.doctor.sources import open_source
from coldfuse.registry.federation import open_federation
from coldfuse.registry.settings import SETTINGS_KEY, mend_settings
from coldfuse.storage import open_store

_LIBRARIES = ("numpy", "numba", "grpcio", "pydantic", "boto3", "ray", "torch", "transformers", "peft")
_LITTLE_BYTES = 1 << 30
"""Free space of a disk below which it is worth a word: a small model and its deltas."""


def doctor(options: DoctorOptions) -> None:
    """Examine a store, or this machine."""
    if options.store is None:
        if options.repair or options.sources:
            raise typer.BadParameter("--repair and --from are for a store; name it")
        _look_here(as_json=options.as_json)
        return
    if options.sources and not options.repair:
        raise typer.BadParameter("--from is where --repair takes sound bytes from; give both")
    store = open_store(options.store)
    restored = options.repair and mend_settings(store)
    sources = tuple(open_source(where) for where in options.sources or ())
    report = Examination(open_federation(store), sources, repairs=options.repair).run()
    if restored:
        found = Finding(key=SETTINGS_KEY, why="damaged or missing", needed_by=("the federation",), repaired="its copy")
        report = Report(
            num_objects=report.num_objects, num_bytes=report.num_bytes, garbage=report.garbage,
            findings=(found, *report.findings),
        )  # fmt: skip
    typer.echo(json.dumps(report.as_json()) if options.as_json else "\n".join(_lines(report)))
    if not report.is_sound:
        raise typer.Exit(1)


def _lines(report: Report) -> Iterator[str]:
    for finding in report.findings:
        ending = f"repaired: {finding.repaired}" if finding.repaired else finding.advice
        yield f"{finding.key}: {finding.why}; needed by {', '.join(finding.needed_by) or 'nothing'}; {ending}"
    read = f"{plural(report.num_objects, 'object')}, {report.num_bytes / 2**20:.1f} MiB"
    num_left = sum(finding.repaired is None for finding in report.findings)
    if not report.findings:
        yield f"sound: {read}"
    else:
        yield f"{read}: {len(report.findings)} damaged or missing, {len(report.findings) - num_left} repaired"
    if report.garbage.num_objects:
        size = report.garbage.num_bytes / 2**20
        yield f"nothing names {plural(report.garbage.num_objects, 'object')}, {size:.1f} MiB"


def _look_here(*, as_json: bool) -> None:
    facts = dict(_facts())
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        typer.echo(f"{name}: {value}")


def _facts() -> Iterator[tuple[str, str]]:
    yield "coldfuse", __version__
    yield "python", platform.python_version()
    yield from _versions().items()
    free = shutil.disk_usage(Path.cwd()).free
    yield "free here", f"{free / 2**30:.1f} GiB" + (", which is little" if free < _LITTLE_BYTES else "")


def _versions() -> Mapping[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
