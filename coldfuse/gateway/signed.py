"""What is signed and can be had by key, for whoever verifies it themselves: an allow-list, and bounds."""

from __future__ import annotations

import re
from functools import lru_cache

from coldfuse.core.serialization import decode
from coldfuse.errors import CodecError, ObjectNotFoundError, UserInputError
from coldfuse.registry.trust import signed_reader
from coldfuse.storage.base import ObjectStore
from coldfuse.trust.envelope import read_envelope
from coldfuse.trust.members import KeyStatement
from coldfuse.trust.reading import MAX_KEY_BYTES, bounded

_NUMBER = r"[0-9]{1,9}"
_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"

_ROOT = re.compile(rf"root/({_NUMBER})\.json")

_READABLE = re.compile(
    rf"federation\.json|root/{_NUMBER}\.json|members/{_NUMBER}\.json|"
    rf"members/keys/(?:[0-9a-f]{{64}}|open-{_NAME})/{_NUMBER}\.json|channels/{_NAME}|"
    rf"releases/{_NUMBER}(?:\.model)?\.sig|rollbacks/{_NUMBER}\.json|words/{_NUMBER}/{_NAME}\.json"
)
"""Keys of what is signed: nothing that contributors have sent, and no journal."""


_NUM_ROOTS = 8
"""Versions of the root that are kept, half a megabyte each at the very most."""


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
        self._read = bounded(signed_reader(store))
        self._root = lru_cache(maxsize=_NUM_ROOTS)(self._require)

    def read(self, key: str) -> bytes | None:
        """Return what lies under a key; None where there is nothing.

        Raises:
            UserInputError: The key is none of what can be had.
            CodecError: What lies there is too long for anything that is signed.
        """
        require_readable(key)
        try:
            return self._read(key) if root_version(key) is None else self._root(key)
        except ObjectNotFoundError:
            return None

    def _require(self, key: str) -> bytes:
        """Return what lies under a key; that nothing does is raised, and so never kept."""
        if (data := self._read(key)) is None:
            raise ObjectNotFoundError(key)
        return data


def read_statement(data: bytes) -> KeyStatement:
    """Return what a statement about a key says, unverified.

    Raises:
        CodecError: It is none, or too long for one.
    """
    what = "the statement about a key"
    if len(data) > MAX_KEY_BYTES:
        raise CodecError(f"{what}: {len(data):,} bytes, at most {MAX_KEY_BYTES:,} are taken")
    return decode(KeyStatement, read_envelope(data, what=what).content("member-key", what=what), what=what)
