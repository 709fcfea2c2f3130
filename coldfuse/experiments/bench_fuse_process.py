"""Run a program as its own process, and see what time and memory it takes."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import psutil

from coldfuse.errors import ColdfuseError

_INTERVAL_S = 0.01


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a program took."""

    whole_s: float | None
    """From its start to its end."""
    seconds: float | None
    """Without starting up, as it says itself; None: it does not say."""
    start_mib: float | None
    """Anonymous memory before it began, as it says itself."""
    peak_mib: float | None
    """Most anonymous memory of its process tree; None: nobody watched."""


NOTHING = Run(whole_s=None, seconds=None, start_mib=None, peak_mib=None)
"""Of a program that did not run."""


def run_process(command: Sequence[str], *, is_watched: bool = False) -> Run:
    """Run a program to its end; a last line of JSON tells what it measured itself.

    Watching costs time (the kernel walks through the memory of every process), so a run is watched or timed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        try:
            peak = _watch(process) if is_watched else None
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        whole_s = time.perf_counter() - began
        if status != 0:
            raise ColdfuseError(f"{command[0]} ended with status {status}: {' / '.join(_lines(errors)[-3:])}")
        said = _said((_lines(output) or [""])[-1])
    return Run(whole_s=whole_s, seconds=said.get("seconds"), start_mib=said.get("start_mib"), peak_mib=peak)


def anonymous_mib(process: psutil.Process) -> float:
    """Return the anonymous memory of a process and all below it: what no file on disk stands behind, in MiB."""
    try:
        members = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_anonymous_kib(member.pid) for member in members) / 1024


def _watch(process: subprocess.Popen[bytes]) -> float:
    tree, peak = psutil.Process(process.pid), 0.0
    while process.poll() is None:
        peak = max(peak, anonymous_mib(tree))
        time.sleep(_INTERVAL_S)
    return peak


def _anonymous_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("Anonymous:")), 0)
    except OSError:  # it ended
        return 0


def _said(line: str) -> dict[str, float]:
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    lines = file.read().decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]
