"""What a result was measured with: the machine, the versions, and the commit where the code lies in a repository."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import coldfuse

_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "numba")


def about() -> dict[str, str]:
    """Return all of it by name."""
    found = {"machine": f"{_processor()}, {os.cpu_count()} cores", "python": platform.python_version()}
    found |= {name: text for name in _LIBRARIES if (text := _version(name))}
    return found | {"coldfuse": coldfuse.__version__, "commit": _commit()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=Path(coldfuse.__file__).parent,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"
