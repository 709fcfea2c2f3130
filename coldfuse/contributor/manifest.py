"""What a contributor says of itself beside its delta: a name that needs no thought, and the software at work."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import PackageNotFoundError, version

from coldfuse.core.serialization import sha256

_SOFTWARE = ("coldfuse", "torch", "transformers")


def default_name(where: str) -> str:
    """Return a name that is the same at every start on this machine, and tells nothing of `where` it comes from."""
    return f"node-{sha256(f'{socket.gethostname()}:{where}'.encode(errors='surrogateescape'))[:8]}"


def software() -> dict[str, str]:
    """Return the versions of what may have made a contribution; what is not installed has made none."""
    found = {"python": platform.python_version()}
    for name in _SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
