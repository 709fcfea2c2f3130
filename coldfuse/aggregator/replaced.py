"""Rounds in which nobody can believe what was written: of keys that were replaced, and from before there was a root."""

from __future__ import annotations

from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal

REPLACED = "the aggregator's key was replaced: what the old one has written counts for nothing; send it again"
"""Why a round of a key that was replaced is abandoned."""


def is_before_root(federation: Federation, number: int) -> bool:
    """Tell whether a round was opened before its federation had a root: nobody can prove who wrote its journal."""
    settings = federation.settings
    return settings.root is not None and not settings.is_signed_round(number)


def is_by_others(federation: Federation, journal: Journal) -> bool:
    """Tell whether a key has written into a journal that was replaced since: it may be in a thief's hands."""
    trust = federation.trust
    return trust is not None and journal.is_by_others(trust.known().root.roles["aggregator"].keys)
