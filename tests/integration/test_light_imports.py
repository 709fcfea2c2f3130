"""What must start quickly imports no library that takes long: seen from processes of their own."""

from __future__ import annotations

import subprocess
import sys

from command_tree import commands

HEAVY = ("torch", "ray", "transformers", "sklearn", "boto3", "grpc")
PROBE = "import sys; from coldfuse.cli.main import main; sys.argv = ['coldfuse', *sys.argv[1:]]\n"


def test_help_of_every_command_loads_nothing_heavy() -> None:
    runs = "\n".join(
        f"try:\n    sys.argv = ['coldfuse', *{name.split()!r}, '--help']; main()\nexcept SystemExit: pass"
        for name in commands()
    )
    code = f"{PROBE}{runs}\nsys.exit(' '.join(sorted(set({HEAVY!r}) & set(sys.modules))) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Example: coldfuse") >= 8


def test_importing_coldfuse_loads_nothing_heavy() -> None:
    code = f"import sys, coldfuse; sys.exit(' '.join(set({HEAVY!r}) & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_opening_a_folder_does_not_import_boto3() -> None:
    program = "import sys, coldfuse.storage as s; s.open_store('x'); sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
