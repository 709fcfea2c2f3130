"""Federations whose releases are signed, whoever else would have to sign what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from federation_keys import TinyTrust
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model, make_round

from coldfuse.aggregator.round import advance
from coldfuse.aggregator.signing import sign_release
from coldfuse.core.federation import RoundRules, Terms
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Fused
from coldfuse.core.serialization import sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.registry.federation import Federation
from coldfuse.registry.signing import ReleaseSigners

TERMS = Terms(rules=RoundRules(quorum=2), method="mean")
HEAD = sha256(b"head")


def fuse_round(federation: Federation, number: int, *, names: Mapping[str, int] | None = None) -> ReleaseManifest:
    """Lead a round until its model is fused and waits to be published.

    Args:
        federation: The federation.
        number: Number of the round.
        names: Who contributes, each with a seed.
    """
    for name, seed in (names or {"ada": number, "bob": 50 + number}).items():
        contribute(federation, name, make_changes(make_model(), seed=seed))
    round_ = make_round(federation, number)
    while True:
        for event in advance(round_):
            if isinstance(event, Fused):
                return federation.objects.get_value(ReleaseManifest, event.manifest)


def sign_it(federation: Federation, manifest: ReleaseManifest, signers: ReleaseSigners) -> None:
    sign_release(federation, manifest, ThreadExecutor(2), signers=signers, terms=TERMS, journal_head=HEAD)


def make_signed(root: Path, signers: TinyTrust, *, rounds: int, num_files: int = 2) -> Federation:
    """Make a federation of signed releases, with the root in its store."""
    federation = make_federation(root, make_model(), num_files=num_files)
    for key, data in signers.stored.items():
        federation.store.put_if_absent(key, data)
    sign_it(federation, federation.latest(), signers)
    for number in range(1, rounds + 1):
        add_signed(federation, signers, number)
    return federation


def add_signed(federation: Federation, signers: ReleaseSigners, number: int) -> ReleaseManifest:
    """Lead a round to its end, with a signed release."""
    manifest = fuse_round(federation, number)
    sign_it(federation, manifest, signers)
    lead(federation, number)
    return manifest
