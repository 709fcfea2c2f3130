"""How fast do we fuse, beside how fast the same bytes are read? `pytest -m benchmark -s tests/benchmarks`.

Measures, never decides: numbers go to `results/`. The same as `coldfuse bench fuse`.
"""

import json
from dataclasses import asdict

import pytest

from coldfuse.experiments import bench_fuse

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(
    ("num_parameters", "num_contributions", "dtype"),
    [(22_000_000, 8, "F32"), (22_000_000, 32, "F32"), (22_000_000, 8, "BF16"), (500_000_000, 8, "BF16")],
)
def bench_mean(num_parameters, num_contributions, dtype):
    figures = bench_fuse.bench_fuse(num_parameters=num_parameters, num_contributions=num_contributions, dtype=dtype)

    print(json.dumps(asdict(figures)))
    assert figures.input_bytes > num_parameters * num_contributions
