"""Whose keys a federation is founded on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from coldfuse.core.serialization import encode, sha256
from coldfuse.trust.envelope import sign
from coldfuse.trust.keys import Signer
from coldfuse.trust.root import RoleKeys, Root

ROOT_EXPIRES_S = 365 * 86400.0
"""Seconds for which a root is believed, unless who makes it says otherwise."""


@dataclass(frozen=True, kw_only=True)
class AggregatorSigner:
    """The keys of an aggregator. They stay in its own process."""

    aggregator: Signer
    """Signs channels, journals and releases."""
    model: Signer | None = None
    """Signs release folders for other programs; None: they are not."""


@dataclass(frozen=True, kw_only=True)
class FounderKeys:
    """The keys that the first root names, and that sign what a new federation begins with."""

    operators: Sequence[Signer]
    """Sign members, rules and promotions."""
    aggregator: Signer
    """Signs channels, journals and releases."""
    model: Signer
    """Signs release folders for other programs."""
    roots: Sequence[Signer] = ()
    """Sign the roots; none: the operators."""
    threshold: int = 1
    """How many operators must sign."""
    root_threshold: int = 1
    """How many of the root's keys must sign."""
    is_open: bool = False
    """Whether any key may contribute and anybody may read."""
    created_at_s: float = field(default_factory=time.time)
    """Seconds since 1970."""
    expires_s: float = ROOT_EXPIRES_S
    """Seconds for which the root is believed."""

    @cached_property
    def root(self) -> Root:
        """The first root, whose SHA-256 is the federation's fingerprint."""
        roots = self.roots or self.operators
        keys = [signer.public for signer in (*self.operators, self.aggregator, self.model, *roots)]
        return Root(
            version=1, created_at_s=self.created_at_s, expires_at_s=self.created_at_s + self.expires_s,
            is_open=self.is_open, keys={key.id: key for key in keys},
            roles={
                "root": _role(roots, self.root_threshold), "operator": _role(self.operators, self.threshold),
                "aggregator": _role([self.aggregator], 1), "model": _role([self.model], 1),
            },
        )  # fmt: skip

    @cached_property
    def fingerprint(self) -> str:
        """What the federation will be known by."""
        return sha256(encode(self.root))

    @property
    def signer(self) -> AggregatorSigner:
        """The keys of its aggregator."""
        return AggregatorSigner(aggregator=self.aggregator, model=self.model)

    def signed_root(self) -> bytes:
        """Return the envelope of the first root."""
        return sign(encode(self.root), "root", self.roots or self.operators)


def _role(signers: Sequence[Signer], threshold: int) -> RoleKeys:
    return RoleKeys(keys=tuple(signer.public.id for signer in signers), threshold=threshold)
