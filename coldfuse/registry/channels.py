"""Names of channels, as users type them and as they come over the wire."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from coldfuse.core.value import Name
from coldfuse.errors import UserInputError

CANDIDATE = "candidate"
"""Channel of what was fused and waits at the gate, or was the last that did."""

CHANNELS = (CANDIDATE, "latest", "stable")
"""The channels that there can be: what is examined before anybody serves it, what the next round is on, and what has
proved itself."""

_NAME: TypeAdapter[str] = TypeAdapter(Name)


def check_channel(name: str) -> str:
    """Return a channel's name, before it becomes a part of a key.

    Raises:
        UserInputError: No channel can have this name.

    >>> check_channel("latest")
    'latest'
    """
    try:
        return _NAME.validate_python(name)
    except ValidationError:
        raise UserInputError(
            f"{name[:80]!r} is no channel's name: expected lower case letters, digits, '.', '_' and '-', such as latest"
        ) from None
