"""A file that is written whole, by a process that is killed or whose disk is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import wait_until

from coldfuse.durable import UNFINISHED, write_whole

WRITER = """
import sys
from pathlib import Path
from coldfuse.durable import writing_whole
for number in range(1, 10**6):
    with writing_whole(Path(sys.argv[1])) as file:
        for _ in range(100):
            file.write(b"%d" % (number % 10) * 50_000)
    print(number, flush=True)
"""

FULL = """
import resource, signal, sys
from pathlib import Path
from coldfuse.durable import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
write_whole(Path(sys.argv[1]), b"x" * 100_000)
"""


@pytest.mark.parametrize("num_written", [1, 2, 10])
def test_after_kill_9_the_file_is_the_last_whole_one(tmp_path: Path, num_written: int) -> None:
    path, unfinished = tmp_path / "file", tmp_path / f"file{UNFINISHED}"
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [next(writer.stdout) for _ in range(num_written)]
        wait_until(lambda: size_of(unfinished) > 1_000_000, "the next file to be half written")
        writer.kill()
        lines += [line for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    last = int(lines[-1])
    assert path.read_bytes() in {b"%d" % (number % 10) * 5_000_000 for number in (last, last + 1)}
    assert set(os.listdir(tmp_path)) <= {path.name, unfinished.name}

    write_whole(path, b"next")

    assert path.read_bytes() == b"next"
    assert os.listdir(tmp_path) == ["file"]


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    full = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=False)
    says = f"coldfuse.errors.UserInputError: {path}: cannot be written: File too large; raise `ulimit -f`"
    assert says in full.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
