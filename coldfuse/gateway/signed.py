"""What is signed and can be had by key, for whoever verifies it themselves: an allow-list, and bounds."""

from __future__ import annotations

import re
from functools import lru_cache

from coldfuse.core.contribution import Count
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode
from coldfuse.core.value import Digest, Name, Value
from coldfuse.errors import CodecError, NotAllowedError, ObjectNotFoundError, SignatureError, UserInputError
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.envelope import read_envelope
from coldfuse.trust.members import KeyStatement
from coldfuse.trust.reading import MAX_ROOT_BYTES
from coldfuse.trust.rights import require_right
from coldfuse.trust.view import TrustView

_NUMBER = r"[0-9]{1,9}"
_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"

_ROOT = re.compile(rf"root/({_NUMBER})\.json")

_READABLE = re.compile(
    rf"federation\.json|root/{_NUMBER}\.json|members/{_NUMBER}\.json|"
    rf"members/keys/(?:[0-9a-f]{{64}}|open-{_NAME})/{_NUMBER}\.json|channels/{_NAME}|"
    rf"releases/{_NUMBER}(?:\.model)?\.sig|checks/{_NUMBER}/{_NAME}\.json"
)
"""Keys of what is signed: nothing that contributors have sent, and no journal."""

MAX_SIGNED_BYTES = MAX_MANIFEST_BYTES
"""More is neither stored nor sent: a list of twenty thousand members takes as much."""


_NUM_ROOTS = 8
"""Versions of the root that are kept, half a megabyte each at the very most."""

MAX_STATEMENT_BYTES, MAX_CHECK_BYTES = 32 << 10, 64 << 10
"""More than a statement about a key, and a member's word on a release, can take."""


class CheckHeading(Value):
    """What a gateway has to know of a member's word on a release."""

    federation: Digest
    """Fingerprint of the root."""
    release: Count
    """Number of the release."""
    member: Name
    """Who has checked it."""


def root_version(key: str) -> int | None:
    """Return which version of the root lies under a key, which everybody may read; None for what is no root's.

    >>> root_version("root/12.json"), root_version("members/1.json"), root_version("root/1.json/../../members/1.json")
    (12, None, None)
    """
    found = _ROOT.fullmatch(key)
    return None if found is None else int(found[1])


def require_readable(key: str) -> None:
    """Raise `UserInputError` for a key under which nothing is signed, or nothing that is anybody's business."""
    if _READABLE.fullmatch(key) is None:
        raise UserInputError(
            f"{key[:200]!r}: nothing that is signed lies there; expected a key such as root/1.json or channels/latest"
        )


class SignedReader:
    """Reads what is signed and can be had by key; roots, which strangers ask for and never change, once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._root = lru_cache(maxsize=_NUM_ROOTS)(self._get)

    def read(self, key: str) -> bytes | None:
        """Return what lies under a key; None where there is nothing.

        Raises:
            UserInputError: The key is none of what can be had.
            CodecError: What lies there is too long for anything that is signed.
        """
        require_readable(key)
        try:
            return self._get(key) if root_version(key) is None else self._root(key)
        except ObjectNotFoundError:
            return None

    def _get(self, key: str) -> bytes:
        data = self._store.get(key, length=MAX_SIGNED_BYTES + 1)
        if len(data) > (MAX_SIGNED_BYTES if root_version(key) is None else MAX_ROOT_BYTES):
            raise CodecError(f"{key}: has {len(data):,} bytes or more, and nothing that is signed there has")
        return data


def read_statement(data: bytes) -> KeyStatement:
    """Return what a statement about a key says, unverified.

    Raises:
        CodecError: It is none, or too long for one.
    """
    what = "the statement about a key"
    if len(data) > MAX_STATEMENT_BYTES:
        raise CodecError(f"{what}: {len(data):,} bytes, at most {MAX_STATEMENT_BYTES:,} are taken")
    return decode(KeyStatement, read_envelope(data, what=what).content("member-key", what=what), what=what)


def read_check(data: bytes) -> CheckHeading:
    """Return what a member's word on a release is about, unverified.

    Raises:
        CodecError: It is none, or too long for one.
    """
    what = "the check"
    if len(data) > MAX_CHECK_BYTES:
        raise CodecError(f"{what}: {len(data):,} bytes, at most {MAX_CHECK_BYTES:,} are taken")
    return decode(CheckHeading, read_envelope(data, what=what).content("check", what=what), what=what)


def put_check(store: ObjectStore, envelope: bytes, view: TrustView, *, now_s: float) -> None:
    """Keep a member's signed word on a release, in the place of an older one of theirs.

    Raises:
        CodecError: It is none, or too long for one.
        SignatureError: It is not signed by the member that it names.
        NotAllowedError: That member may not check, or it is another federation's.
    """
    what, heading = "the check", read_check(envelope)
    said, known = read_envelope(envelope, what=what), view.known()
    if heading.federation != known.fingerprint:
        raise NotAllowedError(
            f"{what}: is of the federation {heading.federation[:12]}, this is {known.fingerprint[:12]}"
        )
    if len(said.signatures) != 1:
        raise SignatureError(f"{what}: has {len(said.signatures)} signatures, expected the one of {heading.member}")
    payload = said.content("check", what=what)
    asker = view.verify(payload, "check", said.signatures[0], name=heading.member, what=what)
    require_right("PutCheck", asker, is_open=known.root.is_open, now_s=now_s)
    key = check_key(heading.release, heading.member)
    if store.put_if_absent(key, envelope):
        return
    _, etag = store.get_with_etag(key)
    store.compare_and_swap(key, envelope, etag=etag)


def check_key(release: int, member: str) -> str:
    """Return the key of a member's word on a release."""
    return f"checks/{release:05d}/{member}.json"
