"""Taking a contribution.

The race with the end of the round: a gateway writes `received`, then reads the journal again; the leader writes
`closed`, then lists the journal again and rejects what came too late. If the gateway's second reading does not show
`closed`, its `received` was there before `closed` and so before the leader's listing, which finds it: whoever was
acknowledged gets a verdict. If it does show `closed`, the listing may be over, so nothing is acknowledged and the
contributor is told at once. Verdicts are written by the leader alone, so none ever exists twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

from coldfuse.core.blob import Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.federation import FederationSettings
from coldfuse.core.round import Received, RoundState
from coldfuse.core.screening import screen_name, screen_round
from coldfuse.core.serialization import blob_digest, decode, encode, sha256
from coldfuse.errors import CodecError, ContributionRejectedError, RoundClosedError
from coldfuse.gateway.base import ContributionVerdict, Decision
from coldfuse.gateway.rounds import Rounds, Standing, find_verdict
from coldfuse.registry.damage import set_aside
from coldfuse.registry.federation import Federation

MAX_MANIFEST_BYTES = 2 << 20
"""Longer manifests of contributions are refused; about 20,000 parts fit."""


class Committer:
    """Checks contributions and records them."""

    def __init__(self, federation: Federation, rounds: Rounds, *, threads: Executor) -> None:
        self._federation = federation
        self._rounds = rounds
        self._threads = threads

    def commit(self, data: bytes) -> ContributionVerdict:
        """Record a contribution whose parts have arrived; one that was recorded before is answered with its verdict."""
        manifest = read_manifest(data)
        check_manifest(manifest, self._federation.settings)
        contribution = sha256(data)
        journal = self._federation.journal(manifest.round)
        if journal.has_received(contribution):
            self._federation.objects.put(contribution, data)  # the store may have damaged it since
        else:
            check_round(manifest, self._rounds.standing())
            self._check_parts(manifest.delta.parts)
            self._federation.objects.put(contribution, data)
            journal.receive(
                Received(
                    contribution=contribution,
                    contributor=manifest.contributor,
                    display_name=manifest.display_name,
                    received_at_s=time.time(),
                )
            )
        state = self._rounds.state(manifest.round)  # only now: see above
        return acknowledge(state, contribution, manifest.round)

    def find_missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that the store does not hold in full, each once, in their order."""
        distinct = list(dict.fromkeys(parts))
        there = self._threads.map(lambda part: self._federation.objects.has(part.digest, part.size_bytes), distinct)
        return [part for part, is_there in zip(distinct, there, strict=True) if not is_there]

    def has_part(self, part: Part) -> bool:
        """Tell whether the store holds a part; one of another size is none, and is moved out of the way of the part."""
        objects = self._federation.objects
        if objects.has(part.digest, part.size_bytes):
            return True
        if objects.is_there(part.digest):
            set_aside(objects.store, part.digest)  # who calls may be wrong about the size, so it is read
        return False

    def ask_again(self, verdict: ContributionVerdict, state: RoundState) -> ContributionVerdict:
        """Return a verdict with whether the store lacks something of the contribution that it has damaged."""
        damage = state.damaged.get(verdict.contribution)
        if damage is None or verdict.decision is Decision.REJECTED or state.is_over or state.fused:
            return verdict
        is_lacking = bool(self.find_missing(damage.parts)) or (
            damage.is_manifest_damaged and not self._federation.objects.is_there(damage.contribution)
        )
        if not is_lacking:
            return verdict
        return replace(verdict, send_again=True, reason=f"{damage.names} was damaged in the store: send it again")

    def _check_parts(self, parts: Sequence[Part]) -> None:
        if missing := self.find_missing(parts):
            raise ContributionRejectedError(
                f"{len(missing)} of {len(parts)} parts have not arrived, the first is {missing[0].digest}; "
                "upload them and commit again"
            )


def encode_manifest(manifest: ContributionManifest) -> bytes:
    """Return the bytes of a manifest that a gateway takes: their SHA-256 is the contribution's name.

    Raises:
        CodecError: The manifest is too long.
    """
    return _check_size(encode(manifest))


def read_manifest(data: bytes) -> ContributionManifest:
    """Parse a contribution's manifest; its size is checked before anything else."""
    return decode(ContributionManifest, _check_size(data), what="manifest")


def check_manifest(manifest: ContributionManifest, settings: FederationSettings) -> None:
    """Refuse a contribution that this federation could never take, whatever the round."""
    if manifest.federation != settings.federation:
        raise ContributionRejectedError(
            f"made for the federation {manifest.federation[:12]}, this is {settings.name} ({settings.federation[:12]})"
            "; check the address"
        )
    if reason := screen_name(manifest):
        raise ContributionRejectedError(reason)
    if manifest.delta.size_bytes > settings.max_contribution_bytes:
        raise ContributionRejectedError(
            f"the delta has {manifest.delta.size_bytes:,} bytes, {settings.name} takes at most "
            f"{settings.max_contribution_bytes:,}; choose a smaller encoding"
        )
    if manifest.delta_digest != (digest := blob_digest(manifest.delta)):
        raise ContributionRejectedError(
            f"delta_digest is {manifest.delta_digest}, but the list of parts has {digest}; build the manifest again"
        )


def check_round(manifest: ContributionManifest, standing: Standing) -> None:
    """Refuse a contribution to another round than the open one, or on another base than the round's."""
    if reason := screen_round(manifest, standing.state.opened, standing.round):
        raise RoundClosedError(reason)
    if not standing.state.is_open:
        raise RoundClosedError(f"round {manifest.round} is closed; wait for the next release and train on that")


def acknowledge(state: RoundState, contribution: str, round_number: int) -> ContributionVerdict:
    """Return the verdict, or that it is to come; raise if there may never be one, as the round has closed."""
    verdict = find_verdict(state, contribution)
    if verdict is None or (verdict.decision is Decision.PENDING and not state.is_open):
        raise RoundClosedError(
            f"round {round_number} closed before this contribution arrived; fetch the next release and train on that"
        )
    return verdict


def _check_size(data: bytes) -> bytes:
    if len(data) > MAX_MANIFEST_BYTES:
        raise CodecError(f"manifest: {len(data):,} bytes, at most {MAX_MANIFEST_BYTES:,} are taken; use larger parts")
    return data
