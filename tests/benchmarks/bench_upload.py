"""How fast do we take uploads, beside a bare gRPC stream? `pytest -m benchmark -s tests/benchmarks`.

Measures, never decides: numbers go to `results/`. The same as `coldfuse bench upload`.
"""

import pytest

from coldfuse.experiments import bench_upload

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("size_mib", [64, 256, 1024, 2048])
def bench_upload_to_a_folder(size_mib):
    (figures,) = bench_upload.bench_upload([size_mib])

    print(figures)
    assert figures.size_mib == size_mib
