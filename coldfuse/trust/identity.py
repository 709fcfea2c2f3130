"""As whom somebody signs."""

from __future__ import annotations

from dataclasses import dataclass

from coldfuse.core.signature import Signature
from coldfuse.trust.envelope import Kind, detached
from coldfuse.trust.keys import Signer


@dataclass(frozen=True)
class Identity:
    """A member's name and key."""

    name: str
    """Name of the member."""
    federation: str
    """Fingerprint of the federation's root."""
    signer: Signer
    """The member's key."""

    def sign(self, payload: bytes, kind: Kind) -> Signature:
        """Sign a payload, for where it lies beside its signature."""
        return detached(payload, kind, self.signer)
