from __future__ import annotations

import subprocess
import sys

import click
import pytest
import typer

from coldfuse.cli.main import app

HEAVY = ("torch", "ray", "transformers", "sklearn", "boto3", "grpc")
PROBE = "import sys; from coldfuse.cli.main import main; sys.argv = ['coldfuse', *sys.argv[1:]]\n"


def commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}

    def walk(path: str, command: click.Command) -> None:
        children = getattr(command, "commands", None)
        if children is None:
            found[path] = command
        for name, child in (children or {}).items():
            walk(f"{path} {name}".strip(), child)

    walk("", typer.main.get_command(app))
    return found


@pytest.mark.parametrize("name", commands())
def test_every_command_shows_an_example(name: str) -> None:
    lines = [line.strip() for line in (commands()[name].help or "").splitlines()]
    assert any(line.startswith(f"Example: coldfuse {name}") for line in lines)


@pytest.mark.parametrize("name", commands())
def test_every_option_says_what_it_does(name: str) -> None:
    options = [p for p in commands()[name].params if isinstance(p, click.Option) or hasattr(p, "is_flag")]
    silent = [p.name for p in options if not getattr(p, "help", None)]
    assert set(silent) <= {"batch_size"}  # nothing would be added to its name


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
