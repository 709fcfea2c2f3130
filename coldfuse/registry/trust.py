"""The root and the members of a federation, as they lie in its store."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from coldfuse.core.federation import FederationSettings
from coldfuse.core.serialization import encode
from coldfuse.errors import FederationError, NotAllowedError, ObjectNotFoundError
from coldfuse.storage.base import ObjectStore, get_if_there
from coldfuse.trust.envelope import sign
from coldfuse.trust.founding import AggregatorSigner, FounderKeys
from coldfuse.trust.members import Members
from coldfuse.trust.reading import ReadSigned, most_bytes
from coldfuse.trust.root import Root, fingerprint_of, first_root
from coldfuse.trust.view import TrustView, members_key, root_key

_LOOKED_FOR = re.compile(r"(?:root|members)/(?!1\.json)\d+\.json|members/keys/.*|words/.*")
"""Keys under which there mostly is nothing yet: next versions, newer keys, words that nobody has given."""


def read_signed(store: ObjectStore, key: str) -> bytes | None:
    """Return what is signed and lies under a key, unverified; None where there is nothing.

    At most one byte is read beyond what may lie there. That something has not come yet is believed at once; a store
    has to say of what every federation has several times that it is gone (`storage.patient`).
    """
    length = most_bytes(key) + 1
    if _LOOKED_FOR.fullmatch(key):
        return get_if_there(store, key, length=length)
    try:
        return store.get(key, length=length)
    except ObjectNotFoundError:
        return None


def signed_reader(store: ObjectStore) -> ReadSigned:
    """Return what reads signed things of a store, as `read_signed` does."""
    return partial(read_signed, store)


def view_of(store: ObjectStore, settings: FederationSettings, *, root: Root | None = None) -> TrustView | None:
    """Return the view on a federation's root and members; None without a root. Nothing is read yet.

    Args:
        store: Where they lie.
        settings: The federation's settings.
        root: The newest root that was seen before, which the chain has to lead through.
    """
    if settings.root is None:
        return None
    return TrustView(signed_reader(store), fingerprint=settings.root, root=root)


def require_aggregator(view: TrustView, signer: AggregatorSigner | None) -> None:
    """Make sure that these keys may lead rounds by the newest root.

    Raises:
        NotAllowedError: They are none, or others than it names.
    """
    root = view.refresh().root
    allowed = root.roles["aggregator"].keys
    if root.roles["aggregator"].threshold > 1:
        raise NotAllowedError(
            f"root {root.version} wants {root.roles['aggregator'].threshold} aggregators to sign together, and one "
            "leads at a time; let an operator set that threshold to 1: coldfuse keys"
        )
    if signer is None or signer.aggregator.public.id not in allowed:
        own = f"has the key {signer.aggregator.public.id[:12]}" if signer else "has no key"
        wanted = ", ".join(keyid[:12] for keyid in allowed)
        raise NotAllowedError(
            f"this aggregator {own}, and root {root.version} of the federation names {wanted}; give it that key, or "
            "let an operator name its key: coldfuse keys"
        )


def found(store: ObjectStore, keys: FounderKeys, *, is_begun: bool = True) -> str:
    """Write the first root and an empty list of members; what an earlier try has written by the same keys is kept.

    Args:
        store: The federation's store.
        keys: Whose it shall be.
        is_begun: Whether something may depend on a root that is there already; else other keys' root gives way.

    Returns:
        The fingerprint of the first root, as it lies in the store.

    Raises:
        FederationError: There is another root already.
    """
    root = _write_first(store, root_key(1), keys.signed_root(), lambda data: _is_by(first_root(data, None), keys.root),
                        replaces=not is_begun)  # fmt: skip
    if root is None:
        fingerprint = fingerprint_of(store.get(root_key(1), length=most_bytes(root_key(1)) + 1))
        raise FederationError(
            f"{store.url}: holds a root of other keys ({fingerprint[:16]}); go on with those keys, or choose another "
            "folder or prefix"
        )
    fingerprint = fingerprint_of(root)
    members = sign(encode(Members(version=1, federation=fingerprint)), "members", keys.operators)
    _write_first(store, members_key(1), members, lambda data: data == members, replaces=not is_begun)
    return fingerprint


def _write_first(
    store: ObjectStore, key: str, data: bytes, is_ours: Callable[[bytes], bool], *, replaces: bool
) -> bytes | None:
    """Write something once; return what lies there, or None if that is somebody else's and stays."""
    if store.put_if_absent(key, data):
        return data
    there, etag = store.get_with_etag(key)
    if is_ours(there):
        return there
    if not replaces:
        return None
    store.compare_and_swap(key, data, etag=etag)
    return data


def _is_by(root: Root, wanted: Root) -> bool:
    """Tell whether a root is of the same keys as another one, whenever it was made."""
    times = {"created_at_s": root.created_at_s, "expires_at_s": root.expires_at_s}
    return root == wanted.model_copy(update=times)
