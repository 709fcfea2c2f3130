"""How fast do we fuse, beside what was written by hand for one method? `pytest -m benchmark -s tests/benchmarks`.

Measures, never decides: numbers go to `results/`. The same as `coldfuse bench fuse`.
"""

import json
from dataclasses import asdict

import pytest

from coldfuse.experiments import bench_fuse
from coldfuse.experiments.bench_fuse_bounds import BOUNDS

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    ("shape", "num_contributions", "dtype", "methods"),
    [
        ("minilm", 8, "F32", [*BOUNDS]),
        ("minilm", 32, "F32", ["mean", "median"]),
        ("minilm", 8, "BF16", ["mean", "ties"]),
        ("llama-0.5b", 8, "BF16", ["mean", "ties", "median"]),
    ],
)
def bench_methods(shape, num_contributions, dtype, methods):
    options = bench_fuse.FuseOptions(methods=methods, shape=shape, num_contributions=num_contributions, dtype=dtype)

    found = list(bench_fuse.bench_fuse(options))

    print(json.dumps([asdict(figures) for figures in found]))
    assert [figures.method for figures in found] == methods
