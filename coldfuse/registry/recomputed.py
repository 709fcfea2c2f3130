"""Keeping members' words on releases."""

from __future__ import annotations

from coldfuse.errors import CodecError, ConflictError, FederationError, NotAllowedError, SignatureError
from coldfuse.registry.releases import release_key
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.check import MAX_CHECK_BYTES, claimed_check, read_check, word_key
from coldfuse.trust.view import TrustView


def put_check(store: ObjectStore, envelope: bytes, view: TrustView, *, now_s: float) -> bool:
    """Keep a member's word on a release: once and for all, as it cannot be taken back.

    Returns:
        True if it is new, False if the member has said the same before.

    Raises:
        CodecError: It is none, or too long for one.
        SignatureError: It is not signed by the member that it names.
        NotAllowedError: That member may not speak, or it is about another federation.
        FederationError: There is no such release.
        ConflictError: The member has said something else of this release.
    """
    what = "the check"
    claimed_check(envelope)  # its size, first
    known = view.known()
    check, _ = read_check(view, envelope, now_s=now_s, is_new=True, what=what)
    if check.federation != known.fingerprint:
        raise NotAllowedError(f"{what}: is of the federation {check.federation[:12]}, this is {known.fingerprint[:12]}")
    if store.head(release_key(check.release)) is None:
        raise FederationError(f"{what}: there is no release {check.release}; it is kept with those that there are")
    key = word_key(check.release, check.member)
    if store.put_if_absent(key, envelope):
        return True
    try:
        data = store.get(key, length=MAX_CHECK_BYTES + 1)
        there, _ = read_check(view, data, now_s=now_s, what=key)
    except (CodecError, SignatureError, NotAllowedError):  # damaged, or of a key that is the member's no more
        etag = store.get_with_etag(key)[1]
        store.compare_and_swap(key, envelope, etag=etag)
        return True
    if (there.manifest, there.agrees) == (check.manifest, check.agrees):
        return False
    raise ConflictError(
        f"{check.member} has said something else of release {check.release} already, and a word is not taken back; "
        f"look at {key}, and ask the operator"
    )
