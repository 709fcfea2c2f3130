"""Secrets that a user is asked for: on a terminal, and nowhere else."""

from __future__ import annotations

import getpass
import sys

from coldfuse.trust.keys import Ask


def ask_on_terminal() -> Ask | None:
    """Return what asks for a secret without showing it; None where nobody sits at a terminal."""
    return (lambda what: getpass.getpass(f"{what}: ")) if sys.stdin.isatty() and sys.stderr.isatty() else None
