"""Numba is loaded when it first pays, by whichever thread comes first: here several come at once."""

import os
import subprocess
import sys

PROGRAM = """
import sys
import threading

from coldfuse.fusion import compiling

sys.setswitchinterval(1e-5)
start = threading.Barrier(4)
got = []


@compiling.compiled
def add(a, b):
    return a + b


def call():
    start.wait()
    got.append(add(1, 2))


def load():
    start.wait()
    got.append(compiling.load().__name__)


threads = [threading.Thread(target=each) for each in (call, load, call, load)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(sorted(map(str, got)))
"""


def test_threads_that_load_numba_at_once_all_get_it(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("['3', '3', 'numba', 'numba']", "")


def test_a_small_mean_loads_no_numba_and_compiled_code_is_found_on_disk(tmp_path):
    program = """
import sys
import numpy as np
from coldfuse.fusion import kernels
from coldfuse.fusion.in_memory import fuse_one
from coldfuse.fusion.methods import METHODS
from coldfuse.fusion.recipe import parse_recipe

fuse_one(parse_recipe("weighted-mean then nesterov", METHODS), [np.ones(3), np.zeros(3)])
assert not {"numba", "scipy", "array_api_compat"} & set(sys.modules)
kernels.pays = lambda _: True
kernels.decode(np.zeros(4, np.uint8), "BF16", np.empty(2))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_DEBUG_CACHE": "1"}
    for expected in ("data saved", "data loaded"):
        command = [sys.executable, "-c", program]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        assert expected in ran.stdout
    assert "data saved" not in ran.stdout
