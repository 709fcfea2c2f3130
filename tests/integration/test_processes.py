"""A gateway and those who follow it, as one tree of processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from commands import Process, wait_until

CHILD = """
import os, sys, time
from pathlib import Path
if sys.argv[1] == "gateway":
    time.sleep(0.3)
    listen = sys.argv[-1]
    print("listening on", "127.0.0.1:7777" if listen.endswith(":0") else listen + " again", flush=True)
    Path("gateway.pid").write_text(str(os.getpid()))
else:
    print("aggregating", flush=True)
time.sleep(60)
"""

PARENT = """
from coldfuse import processes
import os, sys
os.chdir(sys.argv[1])
os.environ["PYTHONPATH"] = sys.argv[1]  # where `python -m coldfuse` is the child above
others = {"aggregator": ["aggregator", "store"]}
processes.run_children(["gateway", "store", "--listen", "127.0.0.1:0"], others)
"""


AGAIN = """
from coldfuse import processes
import os, sys
os.chdir(sys.argv[1])
os.environ["PYTHONPATH"] = sys.argv[1]
processes.FIRST_PAUSE_S = 0.1
processes.run_again("aggregator", ["ending", *sys.argv[2:]])
"""

ENDING = """
import sys
from pathlib import Path
if sys.argv[1] == "ending":
    starts = Path("starts")
    number = len(starts.read_text()) if starts.exists() else 0
    starts.write_text("x" * (number + 1))
    sys.exit(int(sys.argv[2 + number]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "coldfuse").mkdir()
    (tmp_path / "coldfuse" / "__init__.py").touch()
    (tmp_path / "coldfuse" / "__main__.py").write_text(ENDING + CHILD)
    return tmp_path


def test_the_address_comes_first_and_stays_when_the_gateway_is_started_again(folder: Path) -> None:
    with Process(sys.executable, "-c", PARENT, folder) as parent:
        wait_until(lambda: len(parent.lines) >= 2 and (folder / "gateway.pid").exists(), "both lines")
        assert parent.lines == ["listening on 127.0.0.1:7777", "aggregating"]
        os.kill(int((folder / "gateway.pid").read_text()), signal.SIGKILL)
        wait_until(lambda: len(parent.lines) >= 3, "the gateway's next line")
        assert parent.lines[2:] == ["listening on 127.0.0.1:7777 again"]
        assert parent.errors == ["coldfuse: the gateway ended with status -9; starting it again"]
        parent.send(signal.SIGTERM)
        assert parent.wait() == 0, str(parent)


def test_what_ends_with_an_error_is_started_again_until_it_ends_well(folder: Path) -> None:
    with Process(sys.executable, "-c", AGAIN, folder, 1, 75, 0) as parent:
        assert parent.wait() == 0, str(parent)
    assert (folder / "starts").read_text() == "xxx"
    assert parent.errors == [
        "coldfuse: the aggregator ended with status 1; starting it again",
        "coldfuse: the aggregator ended with status 75; starting it again",
    ]


@pytest.mark.parametrize("status", [2, 78])
def test_what_another_start_would_not_change_ends_with_its_status(folder: Path, status: int) -> None:
    with Process(sys.executable, "-c", AGAIN, folder, 1, status, 0) as parent:
        assert parent.wait() == status, str(parent)
    assert (folder / "starts").read_text() == "xx"
