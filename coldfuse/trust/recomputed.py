"""What members say of a release: who has fused it again, and whether the same came out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coldfuse.core.words import printable
from coldfuse.errors import CodecError, NotAllowedError, SignatureError
from coldfuse.trust.check import MAX_CHECK_BYTES, Check, read_check, word_key
from coldfuse.trust.reading import ReadSigned
from coldfuse.trust.rights import RIGHTS
from coldfuse.trust.view import Known, TrustView

MAX_ASKED = 500
"""Members whose word on one release is looked for."""


@dataclass(frozen=True, kw_only=True)
class Recomputations:
    """What members say of a release."""

    release: int
    agree: tuple[str, ...] = ()
    """Names of those for whom the same came out."""
    differ: tuple[tuple[str, str], ...] = ()
    """Names of those for whom something else came out, and what differs first."""
    num_may: int | None = None
    """Number of members who may say something; None in an open federation, where everybody may."""

    def __str__(self) -> str:
        """Say it for people; what differs is said first, and loudly."""
        total = "" if self.num_may is None else f" of {self.num_may}"
        said = f"release {self.release} recomputed by {len(self.agree)}{total}"
        if not self.differ:
            return said
        who, what = self.differ[0]
        more = f" and {len(self.differ) - 1} more have" if len(self.differ) > 1 else " has"
        return (
            f"RELEASE {self.release} IS NOT WHAT IT SAYS: {who}{more} fused it again: {printable(what)}; do not use "
            f"it, and ask its operator ({said})"
        )


def recomputations_of(
    read: ReadSigned, view: TrustView, *, release: int, manifest: str, now_s: float, others: Iterable[str] = ()
) -> Recomputations:
    """Return what members say of a release. Whoever is asked can hide a word, and cannot make one.

    Args:
        read: Reads what lies under a key; nobody need trust it.
        view: Who the members are.
        release: Number of the release.
        manifest: SHA-256 of its manifest's bytes: a word on another one does not count.
        now_s: Seconds since 1970.
        others: Names beside the members', in an open federation.
    """
    known = view.known()
    may = sorted(_who_may(known, now_s))
    names = sorted({*may, *(others if known.root.is_open else ())})[:MAX_ASKED]
    checks = [check for name in names if (check := _word_of(read, view, known, release, name=name, now_s=now_s))]
    found = [check for check in checks if check.manifest == manifest]
    return Recomputations(
        release=release,
        agree=tuple(check.member for check in found if check.agrees),
        differ=tuple((check.member, check.difference or "something else") for check in found if not check.agrees),
        num_may=None if known.root.is_open else len(may),
    )


def _who_may(known: Known, now_s: float) -> list[str]:
    allowed = RIGHTS[Check.right]
    return [
        name
        for name, member in known.members.members.items()
        if member.role in allowed and member.revoked is None and now_s <= member.valid_until_s
    ]


def _word_of(read: ReadSigned, view: TrustView, known: Known, release: int, *, name: str, now_s: float) -> Check | None:
    """Return a member's word; None where there is none that counts."""
    data = read(word_key(release, name))
    if data is None or len(data) > MAX_CHECK_BYTES:
        return None
    try:
        check, _ = read_check(view, data, now_s=now_s)
    except (CodecError, SignatureError, NotAllowedError):
        return None
    return check if (check.federation, check.release, check.member) == (known.fingerprint, release, name) else None
