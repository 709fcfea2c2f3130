"""All that lies in a store beside its history: members' words on releases, leases, and what nothing names."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.registry.lease import KEY as LEASE_KEY
from coldfuse.registry.lease import LeaseRecord
from coldfuse.storage.base import list_keys
from coldfuse.trust.view import TrustView
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.releases import SeenRelease
from coldfuse.verification.words import look_at_words

_ASIDE = ("objects/", "checks/", "damaged/", "scores/", "uploads/", "quotas/", "probes/", "webhooks/")
"""What is read where it is named, or is a service's own note, and otherwise is no part of anything."""


def look_beside(look: Inspection, *, view: TrustView | None, releases: Mapping[int, SeenRelease]) -> None:
    """Look at the rest of a store."""
    if (data := look.read(LEASE_KEY)) is not None:
        look.unseal(LeaseRecord, data, key=LEASE_KEY)
    look_at_words(look, view, releases=releases)
    others = 0
    for key in list_keys(look.store, ""):
        if key not in look.keys and not key.startswith(_ASIDE):
            others += 1
    if others:
        look.note(f"{others} keys of the store are named by nothing that was looked at, and vouch for nothing")
