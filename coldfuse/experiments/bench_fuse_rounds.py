"""Run programs in turns, round by round."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.errors import ColdfuseError
from coldfuse.experiments.bench_fuse_figures import ProgramFigures, Spread, share_differing
from coldfuse.experiments.bench_fuse_models import Job
from coldfuse.experiments.bench_fuse_process import NOTHING, Run, run_process

OURS, COMMAND = "coldfuse", "coldfuse fuse"
"""The programs that others are compared with: start-up apart, and as a whole command."""

_MAY_DIFFER = 1e-4
"""Share of elements: where votes are all but even, single precision elects the other sign."""


@dataclass(frozen=True)
class Program:
    """A command that makes a fused model."""

    name: str
    command: tuple[str, ...]
    is_warmed: bool = False
    """It fuses small models first, so that its whole time means nothing."""
    is_compared: bool = False
    is_peer: bool = False
    """It may fail, which is then a result."""


class Rounds:
    """Runs of all programs in turns. A peer that fails once is left out from then on."""

    def __init__(self, programs: Sequence[Program], job: Job) -> None:
        self._programs, self._job = programs, job
        self._first: dict[str, Run] = {}
        self._runs: dict[str, list[Run]] = {program.name: [] for program in programs}
        self._differing: dict[str, float] = {}
        self._failures: dict[str, str] = {}

    def warm_up(self) -> None:
        """Run each once, watch its memory, and compare what it made."""
        out = Path(self._job.out)
        ours = out.with_name("ours")
        for program in self._programs:
            self._first[program.name] = self._run(program, is_watched=True)
            if program.name == OURS:
                out.rename(ours)
            elif program.is_compared and program.name not in self._failures:
                self._differing[program.name] = self._compare(program, out, ours)
        shutil.rmtree(ours)

    def run(self) -> None:
        """Run each once, and time it."""
        for program in self._programs:
            self._runs[program.name].append(self._run(program, is_watched=False))

    def figures(self, program: Program) -> ProgramFigures:
        """Summarise a program's runs."""
        name, first = program.name, self._first[program.name]
        if name in self._failures:
            return ProgramFigures(program=name, failure=self._failures[name])
        seconds = Spread.of([run.seconds for run in self._runs[name]])
        whole_s = None if program.is_warmed else Spread.of([run.whole_s for run in self._runs[name]])
        counted = seconds or whole_s
        return ProgramFigures(
            program=name,
            seconds=seconds,
            whole_s=whole_s,
            ratio=_ratios([run.seconds for run in self._runs[name]], [run.seconds for run in self._runs[OURS]]),
            whole_ratio=whole_s
            and _ratios([run.whole_s for run in self._runs[name]], [run.whole_s for run in self._runs[COMMAND]]),
            gb_s=self._job.input_bytes / counted.median / 1e9 if counted else None,
            start_mib=first.start_mib,
            peak_mib=first.peak_mib,
            differing=self._differing.get(name),
        )

    def _run(self, program: Program, *, is_watched: bool) -> Run:
        shutil.rmtree(self._job.out, ignore_errors=True)
        if program.name in self._failures:
            return NOTHING
        try:
            return run_process(program.command, is_watched=is_watched)
        except (ColdfuseError, OSError) as error:
            if not program.is_peer:
                raise
            self._failures[program.name] = str(error)
            return NOTHING

    def _compare(self, program: Program, out: Path, ours: Path) -> float:
        differing = share_differing(out, ours)
        if differing > _MAY_DIFFER and not program.is_peer:
            raise ColdfuseError(f"{program.name}: {differing:.1%} of the elements differ from what coldfuse makes")
        return differing


def _ratios(values: Sequence[float | None], ours: Sequence[float | None]) -> Spread | None:
    return Spread.of([a / b if a and b else None for a, b in zip(values, ours, strict=True)])
