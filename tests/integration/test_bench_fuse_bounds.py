"""A bound that made something else than coldfuse would be no bound."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folder_fusions import fuse

from coldfuse.experiments import bench_fuse
from coldfuse.experiments.bench_fuse_bounds import BOUNDS, IS_RANDOM, run_bound
from coldfuse.experiments.bench_fuse_figures import share_differing
from coldfuse.experiments.bench_fuse_models import WEIGHTS, Job, make_job, make_statistics, minilm
from coldfuse.experiments.bench_fuse_torch import PEERS, run_peer

EXACT = [(method, name) for method, names in BOUNDS.items() if method not in IS_RANDOM for name in names]


@pytest.fixture(scope="module", params=["F32", "BF16"])
def job(request, tmp_path_factory):
    """Seven models and their statistics: of an odd number, the median is one of them."""
    folder = tmp_path_factory.mktemp("models")
    shapes, config = minilm(100_000)
    job = Job(
        method="", base="", models=(), statistics=(), out="", dtype=request.param, num_workers=2, on_ray=False,
        num_parameters=0,
    )  # fmt: skip
    return make_statistics(folder, shapes, make_job(folder, shapes, config, job, num_models=7))


def job_of(job, method, out) -> Job:
    return replace(job, method=method, out=str(out), statistics=job.statistics if method == "fisher" else ())


def fuse_ours(job, out) -> Path:
    fuse(Path(job.base), [*map(Path, job.models)], out, job.method, statistics=[*map(Path, job.statistics)])
    return out


def deltas(folder, job):
    values = [np.fromfile(Path(model) / WEIGHTS, np.uint8) for model in (folder, job.base)]
    start = 8 + int(values[0][:8].view(np.uint64)[0])
    fused, base = (
        value[start:].view(np.float32)
        if job.dtype == "F32"
        else (value[start:].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        for value in values
    )
    return fused.astype(float) - base


@pytest.mark.parametrize(("method", "name"), EXACT)
def test_a_bound_makes_what_coldfuse_makes(job, method, name, tmp_path):
    theirs = job_of(job, method, tmp_path / "bound")
    run_bound(name, theirs)
    assert share_differing(Path(theirs.out), fuse_ours(theirs, tmp_path / "ours")) == 0


@pytest.mark.parametrize("num_models", [1, 2, 6])
@pytest.mark.parametrize("method", ["mean", "ties", "median", "trimmed-mean", "breadcrumbs then mean"])
def test_a_bound_takes_any_number_of_models(job, method, num_models, tmp_path):
    theirs = replace(job_of(job, method, tmp_path / "bound"), models=job.models[:num_models])
    run_bound("numba", theirs)
    assert share_differing(Path(theirs.out), fuse_ours(theirs, tmp_path / "ours")) == 0


@pytest.mark.parametrize("method", IS_RANDOM)
def test_a_bound_with_random_numbers_spreads_as_coldfuse_does(job, method, tmp_path):
    theirs = job_of(job, method, tmp_path / "bound")
    run_bound("numba", theirs)
    ours, bound = (deltas(folder, job) for folder in (fuse_ours(theirs, tmp_path / "ours"), theirs.out))
    assert np.std(bound) == pytest.approx(np.std(ours), rel=0.02)
    assert np.mean(bound == 0) == pytest.approx(np.mean(ours == 0), abs=0.01)


@pytest.mark.parametrize("method", PEERS)
def test_a_peer_makes_what_coldfuse_makes(job, method, tmp_path):
    theirs = job_of(job, method, tmp_path / "peer")
    run_peer(theirs)
    assert share_differing(Path(theirs.out), fuse_ours(theirs, tmp_path / "ours")) < 1e-3


def test_a_difference_is_seen(job, tmp_path):
    ours = fuse_ours(job_of(job, "mean", tmp_path / "x"), tmp_path / "ours")
    other = fuse_ours(job_of(job, "median", tmp_path / "x"), tmp_path / "other")
    assert share_differing(other, ours) > 0.1


def test_all_programs_are_measured(tmp_path):
    broken = tmp_path / "mergekit-yaml"
    options = bench_fuse.FuseOptions(
        methods=["mean"], num_parameters=2000, num_contributions=2, num_workers=1, num_runs=1, with_peers=False,
        mergekit=broken, folder=tmp_path,
    )  # fmt: skip
    (figures,) = bench_fuse.bench_fuse(options)
    coldfuse, command, *bounds, mergekit = figures.programs
    assert [row.program for row in figures.programs] == ["coldfuse", "coldfuse fuse", "numpy", "numba", "mergekit"]
    assert coldfuse.seconds.median < command.whole_s.median
    assert [row.differing for row in bounds] == [0, 0]
    assert str(broken) in mergekit.failure
    assert list(tmp_path.iterdir()) == []
