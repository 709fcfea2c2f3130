"""Numba is loaded when it first pays, by whichever thread comes first: here several come at once."""

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
