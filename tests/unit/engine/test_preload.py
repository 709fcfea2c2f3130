"""Numba is loaded in the background where there is enough to do, and only there."""

from __future__ import annotations

import subprocess
import sys


def test_a_large_fusion_loads_numba_and_a_small_one_does_not() -> None:
    program = """
import sys, threading
from coldfuse.engine.preload import expect
from coldfuse.fusion.compiling import LOADING_PAYS, is_loaded

expect(LOADING_PAYS)
assert "numba" not in sys.modules and threading.active_count() == 1
expect(LOADING_PAYS + 1)
for thread in threading.enumerate()[1:]:
    thread.join()
assert is_loaded()
expect(LOADING_PAYS + 1)
assert threading.active_count() == 1
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
