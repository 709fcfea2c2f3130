"""Taking out what somebody gave: what a release says of it that was made for that, and what is kept of what was erased.

Three things are told apart. Out of the *fusion*: the rounds since are fused again without it, which is exact. Out of
the *influence* on what others sent later: not, as long as anything is fused that was trained on a base that held it.
Out of the *store*: its bytes are erased where that is asked for, and a tombstone stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.contribution import Count
from coldfuse.core.serialization import sha256
from coldfuse.core.value import Digest, Sentence, Value

MAX_ERASED = 20_000
"""Number of objects that one tombstone stands for at most."""


class RetractedStep(Value):
    """A round that was fused again."""

    release: Count
    """Number of the release that the round has made, which holds the list of what was fused."""
    round: Count
    """Number of the round."""
    num_fused: Count
    """Number of its contributions that are fused again; 0: the round is passed over."""
    num_influenced: Count
    """Number of these that were trained on a base that held what is left out now."""


class Retraction(Value):
    """What a release replaces, and what was left out of it."""

    release: Count
    """Number of the release that comes of it."""
    replaces: Count
    """Number of the release that it takes the place of."""
    replaced: Digest
    """SHA-256 of that release's manifest."""
    left_out: Annotated[tuple[Digest, ...], Field(min_length=1)]
    """Digests of the contributions that were left out by now, of this retraction and of those before it, in order."""
    steps: Annotated[tuple[RetractedStep, ...], Field(min_length=1)]
    """The rounds that were fused again on the parent, one after the other."""
    fusion: Literal["exact"] = "exact"
    """How far it is out of the fusion: nothing of it is summed any more."""
    influence: Literal["none", "remains"]
    """Whether anything is fused that was trained on a base that held it."""
    bytes: Literal["kept", "to be erased"]
    """What was asked for of its bytes; what was erased a tombstone says."""
    reason: Sentence

    @property
    def num_influenced(self) -> int:
        """Number of fused contributions that were trained on a base that held what is left out."""
        return sum(step.num_influenced for step in self.steps)

    @property
    def last(self) -> RetractedStep | None:
        """The last round of which anything is fused; None where nothing is left of any."""
        return next((step for step in reversed(self.steps) if step.num_fused), None)


class Tombstone(Value):
    """What was erased, so that nobody takes it for lost. It names nobody: whoever has a digest can look it up."""

    federation: Digest
    """Name of the federation."""
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Makes these digests comparable with no others."""
    erased: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=MAX_ERASED)]
    """SHA-256 of the salt and each erased object's own digest, sorted."""
    release: Count | None
    """Number of the release from which on it is out of the fusion; None where it never was in it."""
    erased_at_s: float
    """Seconds since 1970, by the clock of who erased it; for people."""

    def covers(self, digest: str) -> bool:
        """Tell whether an object was erased."""
        return salted(self.salt, digest) in self.erased


def salted(salt: str, digest: str) -> str:
    """Return what a tombstone knows an object by.

    >>> salted("00" * 16, "ab" * 32)[:16]
    'd779edb07813e648'
    """
    return sha256(bytes.fromhex(salt) + bytes.fromhex(digest))


def bury(digests: Iterable[str], *, salt: str, federation: str, release: int | None, now_s: float) -> Tombstone:
    """Return the tombstone of some objects.

    Args:
        digests: What is erased.
        salt: 16 random bytes in hex.
        federation: Name of the federation.
        release: Number of the release from which on it is out of the fusion.
        now_s: Seconds since 1970.
    """
    erased = tuple(sorted(salted(salt, digest) for digest in set(digests)))
    return Tombstone(federation=federation, salt=salt, erased=erased, release=release, erased_at_s=now_s)


def influenced(contributions: Sequence[int | None], *, parent: int, first: int) -> int:
    """Return how many of a release's contributions were trained on a base that held what is left out.

    Args:
        contributions: Number of the older base of each; None where it is the release's parent.
        parent: Number of the release's parent.
        first: Number of the first release that held it.
    """
    return sum((parent if base is None else base) >= first for base in contributions)
