"""Private keys in a process's memory reach no disk and no other process of the same user."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

STATE = """
import ctypes, resource, sys
from coldfuse.cli import main
main.app = lambda: print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
sys.argv = ["coldfuse", *sys.argv[1:]]
main.main()
"""


@pytest.mark.parametrize(("option", "is_dumpable"), [((), "0"), (("--debug",), "1")], ids=["usual", "debug"])
def test_a_command_writes_no_core_file_unless_somebody_debugs(option: tuple[str, ...], is_dumpable: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)  # of this process, which may not raise it
    command = [sys.executable, "-c", STATE, "status", *option]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    limit, _, dumpable = said.rpartition(" ")
    assert dumpable == is_dumpable
    assert limit == ("(0, 0)" if is_dumpable == "0" else str(before))
