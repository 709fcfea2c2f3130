"""What can be wrong with a federation, each with an exit status and a sentence.

The higher a status, the worse the cause: of several the worst decides.
"""

from __future__ import annotations

from enum import Enum

from coldfuse.errors import (
    ChainError,
    CodecError,
    ColdfuseError,
    DamagedObjectError,
    ExpiredError,
    NotAllowedError,
    ObjectNotFoundError,
    RollbackError,
    SignatureError,
    UnknownKeyError,
)


class Cause(Enum):
    """Why something is not believed: its word, its exit status, and what it means."""

    NOT_SEEN = "not-seen", 1, "something could not be looked at, so nothing is said of it"
    UNSIGNED = "unsigned", 3, "nobody has signed it: it is older than the federation's root (fails with --strict)"
    EXPIRED = "expired", 4, "what was signed is no longer valid, and nobody has renewed it"
    ROLLED_BACK = "rolled-back", 5, "an older state is shown as the newest"
    GAP = "gap", 6, "something is missing from the lineage or a journal"
    UNKNOWN_KEY = "unknown-key", 7, "it is signed, but by nobody who may sign it"
    REVOKED = "revoked", 8, "its signer was revoked by then, or its key replaced"
    CONTRADICTION = "contradiction", 9, "a journal, its verdicts, the rules and what was published do not agree"
    DIGEST = "digest", 10, "bytes are not those that were named: damaged or altered"
    SIGNATURE = "signature", 11, "a signature does not fit what it signs: altered or forged"
    RECOMPUTE = "recompute", 12, "fusing again gives another model: it was not made of what it says"

    def __init__(self, word: str, status: int, sentence: str) -> None:
        self.word = word
        self.status = status
        self.sentence = sentence


def cause_of(error: ColdfuseError) -> Cause:
    """Return what an error is a sign of; the narrowest class counts."""
    for kind, cause in _CAUSES:
        if isinstance(error, kind):
            return cause
    return Cause.NOT_SEEN


_CAUSES: tuple[tuple[type[ColdfuseError], Cause], ...] = (
    (UnknownKeyError, Cause.UNKNOWN_KEY),
    (SignatureError, Cause.SIGNATURE),
    (ExpiredError, Cause.EXPIRED),
    (RollbackError, Cause.ROLLED_BACK),
    (ChainError, Cause.GAP),
    (NotAllowedError, Cause.UNKNOWN_KEY),
    (ObjectNotFoundError, Cause.GAP),
    (DamagedObjectError, Cause.DIGEST),
    (CodecError, Cause.DIGEST),
)


def table() -> str:
    """Return the exit statuses for people, a line each."""
    causes = sorted(Cause, key=lambda cause: cause.status)
    return "\n".join(["0: all that was looked at is right", *(f"{c.status}: {c.word}: {c.sentence}" for c in causes)])
