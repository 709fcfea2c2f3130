"""Members' words on releases, as they lie in the store: who has fused one again, and whether the same came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from coldfuse.errors import CodecError, ConflictError, NotAllowedError, SignatureError
from coldfuse.storage.base import ObjectStore, list_keys
from coldfuse.trust.check import MAX_CHECK_BYTES, METHOD, Check, check_key, read_check
from coldfuse.trust.rights import RIGHTS
from coldfuse.trust.view import Known, TrustView

MAX_CHECKS = 1000
"""Words on one release that are read."""


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
        said = f"release {self.release} was recomputed by {len(self.agree)}{total}"
        if not self.differ:
            return said
        who, what = self.differ[0]
        more = f", and {len(self.differ) - 1} more" if len(self.differ) > 1 else ""
        return (
            f"RELEASE {self.release} IS NOT WHAT IT SAYS: {who}{more} fused it again, and {what}; do not use it, and "
            f"ask its operator ({said})"
        )


def put_check(store: ObjectStore, envelope: bytes, view: TrustView, *, now_s: float) -> bool:
    """Keep a member's word on a release: once and for all, as it cannot be taken back.

    Returns:
        True if it is new, False if this very word was there.

    Raises:
        CodecError: It is none, or too long for one.
        SignatureError: It is not signed by the member that it names.
        NotAllowedError: That member may not speak, or it is about another federation.
        ConflictError: The member has said something else of this release.
    """
    what = "the check"
    if len(envelope) > MAX_CHECK_BYTES:
        raise CodecError(f"{what}: {len(envelope):,} bytes, at most {MAX_CHECK_BYTES:,} are taken")
    known = view.known()
    check, _ = read_check(view, envelope, is_open=known.root.is_open, now_s=now_s, what=what)
    if check.federation != known.fingerprint:
        raise NotAllowedError(f"{what}: is of the federation {check.federation[:12]}, this is {known.fingerprint[:12]}")
    key = check_key(check.release, check.member)
    if store.put_if_absent(key, envelope):
        return True
    there = _read(view, store.get(key, length=MAX_CHECK_BYTES + 1), known, now_s=now_s)
    if there is not None and (there.manifest, there.agrees) == (check.manifest, check.agrees):
        return False
    raise ConflictError(
        f"{check.member} has said something else of release {check.release} already, and a word is not taken back; "
        f"look at {key}, and ask the operator"
    )


def recomputations_of(
    store: ObjectStore, view: TrustView, *, release: int, manifest: str, now_s: float
) -> Recomputations:
    """Return what members say of a release; what is not signed as it has to be, or is on another, does not count.

    Args:
        store: The federation's store.
        view: Who the members are.
        release: Number of the release.
        manifest: SHA-256 of its manifest's bytes.
        now_s: Seconds since 1970.
    """
    known = view.known()
    found = [check for check in _checks(store, view, known, release, now_s=now_s) if check.manifest == manifest]
    differ = [(check.member, check.difference or "something else came out") for check in found if not check.agrees]
    return Recomputations(
        release=release,
        agree=tuple(check.member for check in found if check.agrees),
        differ=tuple(differ),
        num_may=None if known.root.is_open else _num_may(known, now_s),
    )


def _checks(store: ObjectStore, view: TrustView, known: Known, release: int, *, now_s: float) -> Iterator[Check]:
    folder = check_key(release, "").removesuffix(".json")
    for key in islice(list_keys(store, folder), MAX_CHECKS):
        check = _read(view, store.get(key, length=MAX_CHECK_BYTES + 1), known, now_s=now_s)
        if check is not None and key == check_key(check.release, check.member):
            yield check


def _read(view: TrustView, data: bytes, known: Known, *, now_s: float) -> Check | None:
    try:
        check, _ = read_check(view, data, is_open=known.root.is_open, now_s=now_s)
    except (CodecError, SignatureError, NotAllowedError):
        return None
    return check if check.federation == known.fingerprint else None


def _num_may(known: Known, now_s: float) -> int:
    allowed = RIGHTS[METHOD]
    members = known.members.members.values()
    return sum(m.role in allowed and m.revoked is None and now_s <= m.valid_until_s for m in members)
