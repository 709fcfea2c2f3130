"""The rules of a federation, fixed when it is created."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.names import DisplayName
from coldfuse.core.value import Digest, Name, Value

LAYOUT_VERSION = 1
"""Version of the store's layout. Code reads it before anything else, and says so when it meets a newer one."""


class RoundRules(Value):
    """When a round closes."""

    quorum: Annotated[int, Field(ge=1)] = 2
    """Number of admitted contributions that lets a round close."""
    deadline_s: Annotated[float, Field(gt=0)] = 900.0
    """Seconds after which a round with too few contributions is abandoned; what was admitted counts for the next."""


class FederationSettings(Value):
    """The content of `federation.json`."""

    version: int = LAYOUT_VERSION
    federation: Digest
    """Random name that no other federation has: a contribution to one is none to another."""
    name: Name
    display_name: DisplayName | None = None
    """Name for people, of which `name` is the id; None where that is the name."""
    rules: RoundRules
    """Rules by which rounds close."""
    method: str
    """Recipe by which rounds are fused, see `coldfuse fuse --help`."""
    created_at_s: float
    """Seconds since 1970, by the clock of who created it."""
    base: str
    """Folder or hub id that release 0 came from, for people."""
    release_zero: Digest
    """SHA-256 of the manifest of release 0."""
    max_contribution_bytes: Count = 1 << 42
    """Size above which a contribution is refused before it is read."""
