"""A published model: its files, and everything it was made from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.blob import Blob
from coldfuse.core.contribution import Count
from coldfuse.core.value import Digest, Name, Value

MAX_METHOD_CHARS = 1000
"""Of a recipe with every parameter."""


class FusedContribution(Value):
    """One contribution's part in a release."""

    contribution: Digest
    contributor: Name
    delta_digest: Digest
    num_examples: Count
    weight: float
    """w_i before normalisation."""


class OuterState(Value):
    """What the outer steps remember of the rounds so far."""

    age: Count
    """Steps that it has seen."""
    files: dict[str, Blob]
    """`<slot>/<path>` for each safetensors file of the model: the same tensors in float32."""


class ReleaseManifest(Value):
    """What release `release` is. Release 0 is the pretrained base; immutable once published."""

    version: Literal[1] = 1
    federation: Digest
    release: Count
    parent: Count | None
    """The release that was this one's base; None for release 0."""
    round: Count
    """The round that made it; 0 for release 0."""
    method: Annotated[str, Field(max_length=MAX_METHOD_CHARS)]
    """The recipe with every parameter; "base" for release 0."""
    model_digest: Digest
    files: dict[str, Blob]
    """Relative POSIX path of each file in the Hugging Face folder, and its parts."""
    contributions: tuple[FusedContribution, ...] = ()
    outer: OuterState | None = None
    """None: the method has no outer step that remembers anything."""
    moved: float | None = None
    """The fraction of the model's elements whose bytes differ from the parent's; None where nobody counted."""
    created_at_s: float
    """Seconds since 1970, by the publisher's clock; for people."""
    software: dict[Name, str] = Field(default_factory=dict)


class Channel(Value):
    """A pointer to a release, changed by compare and swap."""

    release: Count
    round: Count
    """The round that made it: the current one comes after it."""
    manifest: Digest
    """SHA-256 of the release manifest's bytes."""
    model_digest: Digest
