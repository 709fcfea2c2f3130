"""One program of the benchmark in a process of its own: `PROGRAM JOB [SMALL_JOB]`; the small job warms it up.

Its last line says how long the fusion took, start-up apart, and what memory the process had before.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from coldfuse.experiments.bench_fuse_models import Job
from coldfuse.experiments.bench_fuse_process import anonymous_mib

Fuse = Callable[[Job], None]


def main(arguments: Sequence[str]) -> None:
    """Run a program."""
    name, *files = arguments
    job, *small = [Job.read(Path(file)) for file in files]
    with _program(name, job) as fuse:
        for each in small:  # compiled functions are loaded: a part of starting up
            fuse(each)
            shutil.rmtree(each.out)
        start_mib = anonymous_mib(psutil.Process())
        began = time.perf_counter()
        fuse(job)
        seconds = time.perf_counter() - began
    sys.stdout.write(json.dumps({"seconds": seconds, "start_mib": start_mib}) + "\n")


@contextmanager
def _program(name: str, job: Job) -> Iterator[Fuse]:
    """Import what the program needs, and no more."""
    if name == "coldfuse":
        with _ours(job) as fuse:
            yield fuse
    elif name == "torch":
        from coldfuse.experiments.bench_fuse_torch import run_peer

        yield run_peer
    else:
        from coldfuse.experiments.bench_fuse_bounds import run_bound

        yield lambda job: run_bound(name, job)


@contextmanager
def _ours(job: Job) -> Iterator[Fuse]:
    from coldfuse.config import prepare_ray
    from coldfuse.engine.execution import Executor, ThreadExecutor, ray_executor
    from coldfuse.engine.folder_fusion import FolderFusion, fuse_folders
    from coldfuse.engine.recipes import read_recipe

    def fuse(executor: Executor, job: Job) -> None:
        request = FolderFusion(
            base=Path(job.base), models=[Path(model) for model in job.models], out=Path(job.out),
            recipe=read_recipe(job.method), statistics=[Path(path) for path in job.statistics],
        )  # fmt: skip
        fuse_folders(request, executor)

    if job.on_ray:
        prepare_ray()
        with ray_executor(None, num_cpus=job.num_workers) as executor:
            yield lambda job: fuse(executor, job)
    else:
        threads = ThreadExecutor(job.num_workers)
        yield lambda job: fuse(threads, job)


if __name__ == "__main__":
    main(sys.argv[1:])
