"""Who makes a change, for the history."""

from __future__ import annotations

import getpass
import socket

from coldfuse.core.words import printable

_MAX_BY_CHARS = 200


def who(by: str | None) -> str:
    """Return who makes a change: as they said, or as their system calls them."""
    if by is None:
        try:
            by = f"{getpass.getuser()}@{socket.gethostname()}"
        except (OSError, KeyError, ImportError):  # a container without names
            by = f"somebody@{socket.gethostname()}"
    return printable(by)[:_MAX_BY_CHARS]
