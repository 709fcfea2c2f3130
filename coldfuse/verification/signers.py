"""Who may sign what, now and at any time before: all versions of the root, followed from the fingerprint.

What was signed long ago was signed by whoever held the role then. A key that has lost its role signs nothing after
that; when something was signed, what is signed around it says: a release by its own manifest, which the channel and the
releases after it name.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldfuse.errors import CodecError, SignatureError, TrustError, UnknownKeyError
from coldfuse.trust.envelope import Kind
from coldfuse.trust.keys import PublicKey
from coldfuse.trust.root import MAX_ROOTS, RoleName, Root, fingerprint_of, first_root, next_root
from coldfuse.trust.view import SKEW_S, root_key
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection


@dataclass(frozen=True)
class Signers:
    """The roots of a federation, the newest last."""

    fingerprint: str
    roots: tuple[Root, ...]

    @property
    def newest(self) -> Root:
        """The root that holds now."""
        return self.roots[-1]

    def keys_of(self, role: RoleName) -> list[PublicKey]:
        """Return every key that has ever held a role, those that hold it now first."""
        found = {key.id: key for root in reversed(self.roots) for key in root.keys_of(role)}
        return list(found.values())

    def ended_s(self, version: int) -> float | None:
        """Return when a version of the root was replaced, in seconds since 1970; None: it holds still."""
        return self.roots[version].created_at_s if 0 < version < len(self.roots) else None

    def verified(self, data: bytes, kind: Kind, role: RoleName, *, what: str) -> tuple[bytes, Root]:
        """Return what enough keys of a role have signed, by the newest root that they are enough for, and that root.

        Raises:
            UnknownKeyError: There was no time at which they were enough.
            SignatureError: A signature does not fit.
            CodecError: It is no envelope of this kind.
        """
        failure: TrustError | None = None
        for root in reversed(self.roots):
            try:
                return root.verified(data, kind, role, what=what), root
            except UnknownKeyError as error:
                failure = failure or error
        raise failure or SignatureError(f"{what}: there is no root")

    def open(
        self, look: Inspection, data: bytes, kind: Kind, role: RoleName, *, key: str, at_s: float | None = None
    ) -> bytes | None:
        """Return what is signed for a role, or note why it is not believed, and return None.

        Args:
            look: Where findings are noted.
            data: The envelope.
            kind: What it has to be.
            role: Whose signature it needs.
            key: Where it lies.
            at_s: When it was signed; None: it is of now, and only the newest root counts.
        """
        try:
            payload, root = self.verified(data, kind, role, what=key)
        except (TrustError, CodecError) as error:
            look.error(key, error)
            return None
        ended_s = self.ended_s(root.version)
        if ended_s is not None and (at_s is None or at_s > ended_s + SKEW_S):
            look.add(
                Cause.REVOKED,
                key,
                f"is signed by keys that are no {role}'s since root {root.version + 1} took them out",
            )
            return None
        return payload


def follow_roots(look: Inspection, fingerprint: str | None) -> Signers | None:
    """Follow the roots from the first one to the newest; None where not even the first can be believed.

    Args:
        look: The store, and where findings are noted.
        fingerprint: What the federation is known by; None: the store's own word is taken.
    """
    data = look.read(root_key(1))
    if data is None:
        look.add(Cause.GAP, root_key(1), "is missing, and without the first root nobody knows who may sign")
        return None
    try:
        roots = [first_root(data, fingerprint)]
    except (TrustError, CodecError) as error:
        look.error(root_key(1), error)
        return None
    found = fingerprint or fingerprint_of(data)
    for _ in range(MAX_ROOTS):
        key = root_key(roots[-1].version + 1)
        if (later := look.read(key)) is None:
            break
        try:
            roots.append(next_root(roots[-1], later))
        except (TrustError, CodecError) as error:
            look.error(key, error)
            break
    look.looked_at["roots"] += len(roots)
    with look.noting(root_key(roots[-1].version)):
        roots[-1].require_valid(now_s=look.at_s)
    if look.at_s < roots[0].created_at_s - SKEW_S:
        look.add(Cause.NOT_SEEN, root_key(1), "was made after the time that was asked for: nothing was there to judge")
    return Signers(found, tuple(roots))
