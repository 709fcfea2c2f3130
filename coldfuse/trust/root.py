"""The root of a federation: which keys may sign what, how many must, and until when.

The SHA-256 of its first version is the federation's fingerprint. Whoever holds that needs to trust nothing on first
sight: each later version is signed by the root keys of the one before it and by its own (TUF 1.0.34, 5.3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from coldfuse.core.contribution import Count
from coldfuse.core.serialization import decode, sha256
from coldfuse.core.value import Digest, Value
from coldfuse.errors import ExpiredError, SignatureError
from coldfuse.trust.envelope import Kind, read_envelope, verified
from coldfuse.trust.keys import PublicKey

RoleName = Literal["root", "operator", "aggregator", "model"]
"""root: changes the root. operator: signs members, rules and promotions. aggregator: signs channels, journals and
releases. model: signs release folders for other programs."""

ROLES: tuple[RoleName, ...] = get_args(RoleName)
"""All of them."""

MAX_ROOTS = 256
"""Versions that a client follows in one go, as TUF's do."""

MAX_KEYS = 64
"""Keys of one role."""


class RoleKeys(Value):
    """Who may sign for a role."""

    keys: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=MAX_KEYS)]
    """Ids of its keys."""
    threshold: Annotated[int, Field(ge=1, le=MAX_KEYS)] = 1
    """How many of them must sign."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.keys)) < len(self.keys):
            raise ValueError("a key is named twice")
        if self.threshold > len(self.keys):
            raise ValueError(f"{self.threshold} must sign, and there are {len(self.keys)} keys")
        return self


class Root(Value):
    """One version of the root."""

    version: Annotated[Count, Field(ge=1)]
    """Number of the version, from 1, without gaps."""
    created_at_s: float
    """Seconds since 1970; makes two federations with the same keys different."""
    expires_at_s: float
    """Seconds since 1970 after which nothing is believed until a new version is there."""
    is_open: bool = False
    """Whether any key may contribute and anybody may read, as in a laboratory."""
    keys: Annotated[dict[Digest, PublicKey], Field(max_length=4 * MAX_KEYS)]
    """The keys by their ids."""
    roles: dict[RoleName, RoleKeys]
    """Who may sign what."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = set(ROLES) - set(self.roles)
        if missing:
            raise ValueError(f"no keys for {', '.join(sorted(missing))}")
        for keyid, key in self.keys.items():
            if key.id != keyid:  # else one key could count twice
                raise ValueError(f"key {keyid[:12]} has another id, {key.id[:12]}")
        for name, role in self.roles.items():
            if unknown := set(role.keys) - set(self.keys):
                raise ValueError(f"{name}: key {min(unknown)[:12]} is not there")
        return self

    def keys_of(self, role: RoleName) -> list[PublicKey]:
        """Return the keys that may sign for a role."""
        return [self.keys[keyid] for keyid in self.roles[role].keys]

    def verified(self, data: bytes, kind: Kind, role: RoleName, *, what: str) -> bytes:
        """Return an envelope's payload, once enough keys of a role have signed it; raises as `envelope.verified`."""
        threshold = self.roles[role].threshold
        return verified(data, kind, self.keys_of(role), threshold=threshold, what=f"{what} ({role}'s)")

    def require_valid(self, *, now_s: float) -> None:
        """Raise `ExpiredError` if it has expired."""
        if now_s > self.expires_at_s:
            raise ExpiredError(
                f"root {self.version} has expired {(now_s - self.expires_at_s) / 86400:.0f} days ago; an operator has "
                "to renew it: coldfuse keys renew STORE"
            )


def fingerprint_of(data: bytes) -> str:
    """Return the fingerprint of a federation from its first root's envelope: the SHA-256 of what was signed."""
    return sha256(read_envelope(data, what="root 1").content("root", what="root 1"))


def first_root(data: bytes, fingerprint: str | None) -> Root:
    """Return version 1.

    Args:
        data: Its envelope.
        fingerprint: What the federation is known by; None to believe what comes, where nothing is known.

    Raises:
        SignatureError: It is another federation's, or its own keys have not signed it.
        CodecError: It is no root.
    """
    found = fingerprint_of(data)
    if fingerprint is not None and found != fingerprint:
        raise SignatureError(
            f"root 1 has the fingerprint {found}, expected {fingerprint}: this is another federation, or somebody "
            "pretends to be it"
        )
    root = _read(data, 1)
    root.verified(data, "root", "root", what="root 1")
    return root


def next_root(root: Root, data: bytes) -> Root:
    """Return the version after a root: signed by enough of the root keys of both, and one higher.

    Raises:
        SignatureError: Too few have signed it, or it is not the next version.
        CodecError: It is no root.
    """
    number = root.version + 1
    root.verified(data, "root", "root", what=f"root {number}")
    new = _read(data, number)
    new.verified(data, "root", "root", what=f"root {number}")
    return new


def follow(first: bytes, later: Iterable[bytes], fingerprint: str | None) -> Root:
    """Return the newest root of a chain; raises as `first_root` and `next_root`. Expiry is the caller's to check."""
    root = first_root(first, fingerprint)
    for _, data in zip(range(MAX_ROOTS), later, strict=False):
        root = next_root(root, data)
    return root


def read_known_root(data: bytes) -> Root:
    """Return a root whose signatures were verified before; nothing of it is verified again.

    Raises:
        CodecError: It is no root.
    """
    return _parse(data, "the root that was kept")


def _read(data: bytes, number: int) -> Root:
    what = f"root {number}"
    root = _parse(data, what)
    if root.version != number:
        raise SignatureError(f"{what}: says that it is version {root.version}")
    return root


def _parse(data: bytes, what: str) -> Root:
    return decode(Root, read_envelope(data, what=what).content("root", what=what), what=what)
