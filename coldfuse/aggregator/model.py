"""A release as a base to fuse on: its files' headers and its tied weights, read from the store once a release."""

from __future__ import annotations

from dataclasses import dataclass

from coldfuse.core.release import ReleaseManifest
from coldfuse.core.schema import Schema
from coldfuse.engine.tied import Tied, find_tied
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checkpoint import Checkpoint, open_release


@dataclass(frozen=True)
class Base:
    """θ_t: a release and where its tensors lie."""

    release: ReleaseManifest
    checkpoint: Checkpoint
    tied: Tied
    """The tensor that each copy among the base's tensors is a copy of."""
    is_stand_in: bool = False
    """True where it takes another release's place: what was trained on that one is applied on this."""
    store_url: str | None = None
    """Store that its files lie in; None: the federation's."""
    made: int | None = None
    """Number of the release that is made of it, where the federation has gone back; None: the one after it."""

    @property
    def schema(self) -> Schema:
        """Every tensor's dtype and shape."""
        return self.checkpoint.schema

    @property
    def number(self) -> int:
        """Number of the release that is made of it."""
        return self.release.release + 1 if self.made is None else self.made


def open_base(federation: Federation, release: ReleaseManifest, *, number: int | None = None) -> Base:
    """Read the headers of a release's safetensors files, and every tensor that may be a tied weight stored twice.

    Args:
        federation: Where it lies.
        release: The release.
        number: Number of the release that is made of it; None: the one after it.
    """
    checkpoint = open_release(federation.store.url, release)
    return Base(release, checkpoint, find_tied(checkpoint), made=number)
