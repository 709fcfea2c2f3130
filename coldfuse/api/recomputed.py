"""What members say of the releases of a federation that is asked over any gateway."""

from __future__ import annotations

import time

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.gateway import Gateway, ReleaseSummary
from coldfuse.trust.recomputed import Recomputations, recomputations_of
from coldfuse.trust.view import TrustView


class Words:
    """Asks for members' words on releases; the members are read once."""

    def __init__(self, gateway: Gateway) -> None:
        """Take whom to ask; nothing is asked yet."""
        self._gateway = gateway
        self._view: TrustView | None = None

    def on(self, release: int, manifest: str, *, others: tuple[str, ...] = ()) -> Recomputations | None:
        """Return what members say of a release; None where nobody's word can be verified.

        Args:
            release: Number of the release.
            manifest: SHA-256 of its manifest's bytes.
            others: Names beside the members', for an open federation.
        """
        gateway = self._gateway
        if not isinstance(gateway, TrustedGateway):
            return None
        if self._view is None:
            known = gateway.belief.known()
            self._view = TrustView(
                gateway.read_signed, fingerprint=known.fingerprint, root=known.root, members=known.members.version
            )
        return recomputations_of(
            gateway.read_signed, self._view, release=release, manifest=manifest, now_s=time.time(), others=others
        )

    def on_summary(self, summary: ReleaseSummary) -> Recomputations | None:
        """Return what members say of a release of the history; None also of a base, which nobody has fused."""
        if summary.parent is None:
            return None
        others = tuple(fused.contributor for fused in summary.contributions)
        return self.on(summary.name.number, summary.name.manifest_digest, others=others)
