"""How fast does `coldfuse fuse` fuse, beside C and torch? `pytest -m benchmark -s tests/benchmarks`.

Measures, never decides: numbers go to `results/`.
"""

from pathlib import Path

import pytest
from benchmarks.compare import CASES, main

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("case", CASES)
def bench_methods(case, tmp_path, capsys):
    main([str(Path(__file__).parents[2]), "--folder", str(tmp_path), "--cases", case, "--torch"])

    said = capsys.readouterr().out
    print(said)
    assert f"{case}, mean:" in said
    assert f"{case}, ties:" in said
