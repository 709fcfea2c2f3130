"""How much memory `coldfuse fuse` takes: what it was given, however many models there are, and however large they are.

Resident memory of the one process counts: it maps no file of a model. Beside the budget there is what the interpreter
and its libraries take, seen on a model of nothing.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from coldfuse.experiments.bench_fuse import Program, run_program
from coldfuse.experiments.bench_models import make_models, square
from coldfuse.fusion.compiling import LOADING_PAYS

BUDGET_MIB = 84
NOISE_MIB = 8
"""About 5 %: what lies between two runs of the same command, as threads meet or do not. 12 models more would take
384 MiB, and 64 MiB more of each model 64 MiB, if any of it were held."""

METHODS = ["mean", "median", "dare then ties", "pcb"]
NUM_PARAMETERS = {"nothing": 30_000, "few": 1 << 24, "large": 3 << 24}
"""Two bytes each: so little that all compiled functions run but nothing is large; two parts of 16 MiB; six parts."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Models of each kind; `many` are the few, four times each, and `most` so many that numba pays for a mean, too."""
    jobs = {
        name: make_models(tmp_path_factory.mktemp(name), square(count), dtype="BF16", num_models=4)
        for name, count in NUM_PARAMETERS.items()
    }
    few = jobs["few"]
    most = LOADING_PAYS // NUM_PARAMETERS["few"] + 1
    return jobs | {
        "many": replace(few, models=few.models * 4),
        "most": replace(few, models=(few.models * most)[:most]),
    }


def peak_mib(job, method, out):
    arguments = ["--out", out, "--method", method, "--workers", "2", "--memory", f"{BUDGET_MIB}MiB"]
    command = [sys.executable, "-P", "-m", "coldfuse", "fuse", job.base, *job.models, *arguments]
    return run_program(Program(name="coldfuse fuse", command=list(map(str, command)))).peak_mib


@pytest.mark.parametrize("method", METHODS)
def test_memory_stays_within_the_budget_and_grows_neither_with_models_nor_with_their_size(method, jobs, tmp_path):
    names = ["nothing", "few", "large", "many"]
    with ThreadPoolExecutor(2) as pool:
        peaks = dict(
            zip(names, pool.map(lambda each: peak_mib(jobs[each], method, tmp_path / each), names), strict=True)
        )

    print(method, {name: round(peak, 1) for name, peak in peaks.items()})
    assert peaks["few"] > peaks["nothing"]
    assert max(peaks.values()) < peaks["nothing"] + BUDGET_MIB
    assert peaks["many"] < peaks["few"] + NOISE_MIB
    assert peaks["large"] < peaks["few"] + NOISE_MIB


def test_a_mean_that_loads_numba_stays_within_the_budget_beside_it(jobs, tmp_path):
    with_numba = peak_mib(jobs["nothing"], "median", tmp_path / "nothing")
    assert peak_mib(jobs["most"], "mean", tmp_path / "most") < with_numba + BUDGET_MIB
