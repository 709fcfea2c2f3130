"""The processes in which the benchmark of fusing runs what it measures."""

import sys

import pytest

from coldfuse.errors import ColdfuseError
from coldfuse.experiments.bench_fuse_process import run_process


def test_a_process_says_what_it_took_and_is_watched():
    code = "data = bytearray(50 << 20); import time; time.sleep(0.2); print('{\"seconds\": 0.5}')"
    run = run_process([sys.executable, "-c", code], is_watched=True)
    assert run.seconds == 0.5
    assert run.whole_s > 0.2
    assert 50 < run.peak_mib < 100


def test_a_process_that_fails_is_an_error_with_its_last_words():
    with pytest.raises(ColdfuseError, match=r"status 3: .*woe"):
        run_process([sys.executable, "-c", "import sys; sys.stderr.write('woe'); sys.exit(3)"])
