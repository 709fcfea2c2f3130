"""Taking a contribution.

The race with the end of the round: a gateway writes `received`, then reads the head of the leader's journal; the leader
writes `closed`, then lists the journal again and rejects what came too late. `closed` takes place when the head is
swapped, and from then on every reading of the head leads to it, whatever entry it holds by then. So if the gateway's
reading, begun after its `received` was durable, shows a round that is open, `received` was there before `closed` and so
before the leader's listing, which finds it: whoever was acknowledged gets a verdict. If it shows `closed`, the listing
may be over, so nothing is acknowledged and the contributor is told at once. Verdicts are written by the leader alone,
so none ever exists twice.

All the checks before may rest on what was read a moment ago, as they only save work: a round whose end was missed is
seen by that last reading. Whoever they refuse is checked again on a new one. The work is the same however many others
contribute: nothing here lists the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from coldfuse.core.blob import Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.federation import FederationSettings
from coldfuse.core.round import Received, RoundState
from coldfuse.core.screening import screen_claims, screen_name, screen_round, screen_statistics
from coldfuse.core.serialization import blob_digest, decode, encode, sha256
from coldfuse.core.signature import Signature
from coldfuse.errors import CodecError, ContributionRejectedError, RoundClosedError
from coldfuse.gateway.answers import ContributionVerdict, Decision
from coldfuse.gateway.leftovers import Condemned
from coldfuse.gateway.presence import Presence
from coldfuse.gateway.rounds import STANDING_AGE_S, Rounds, Standing, find_verdict
from coldfuse.gateway.senders import Senders
from coldfuse.registry.damage import set_aside
from coldfuse.registry.federation import Federation
from coldfuse.registry.objects import object_key
from coldfuse.trust.rights import Asker

MAX_MANIFEST_BYTES = 2 << 20
"""Longer manifests of contributions are refused; about 20,000 parts fit."""

_NUM_LOOKS = 4
"""Number of times that a store must say that a part is not there before its contribution is refused."""


class Committer:
    """Checks contributions and records them."""

    presence: Presence
    """What is known of parts that came or were asked for a moment ago."""

    def __init__(self, federation: Federation, rounds: Rounds, *, threads: Executor) -> None:
        self._federation = federation
        self._rounds = rounds
        self._threads = threads
        self._senders = Senders(federation)
        self.presence = Presence()
        self._condemned = Condemned(federation.store)

    def commit(self, data: bytes, signature: Signature | None = None) -> ContributionVerdict:
        """Record a contribution whose parts have arrived; one that was recorded before is answered with its verdict.

        Raises:
            ContributionRejectedError: The federation can never take it, or not all of it is there.
            NotAllowedError: Its contributor may not contribute.
            GatewayBusyError: Some of its parts are being dropped at this moment.
        """
        manifest = read_manifest(data)
        check_manifest(manifest, self._federation.settings)
        sender = self._senders.prove(manifest, data, signature)
        received = Received(
            contribution=sha256(data),
            contributor=manifest.contributor,
            display_name=manifest.display_name,
            received_at_s=self._federation.now_s(),
            signature=signature if sender is not None else None,
        )
        try:
            self._record(manifest, data, received, sender)
        except ContributionRejectedError:
            if not self._rounds.journal(manifest.round).has_received(received.contribution):
                raise
            self._federation.objects.put(received.contribution, data)  # the store may have damaged it since
        state = self._rounds.led(manifest.round)  # only now: see above
        return acknowledge(
            replace(state, received={received.contribution: received}), received.contribution, manifest.round
        )

    def _record(self, manifest: ContributionManifest, data: bytes, received: Received, sender: Asker | None) -> None:
        self._check_round(manifest)
        self._condemned.check(manifest.parts)
        self._check_parts(manifest.parts)
        self._senders.count(sender, received)
        self._federation.objects.put(received.contribution, data)
        self._rounds.journal(manifest.round).receive(received)

    def _check_round(self, manifest: ContributionManifest) -> None:
        try:
            check_round(manifest, self._rounds.current(max_age_s=STANDING_AGE_S))
        except RoundClosedError:
            check_round(manifest, self._rounds.current())

    def find_missing(self, parts: Iterable[Part]) -> list[Part]:
        """Return the parts that the store does not hold in full, each once, in their order."""
        distinct = list(dict.fromkeys(parts))
        found = list(self._threads.map(lambda part: self._federation.store.head(object_key(part.digest)), distinct))
        missing = []
        for part, info in zip(distinct, found, strict=True):
            if info is not None and info.size_bytes == part.size_bytes:
                self.presence.seen(part)
                continue
            missing.append(part)
            self.presence.missed(part, is_absent=info is None)
        return missing

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
        """Refuse a contribution whose parts have not arrived; those that came by here a moment ago have."""
        missing = [part for part in parts if not self.presence.is_there(part)]
        for _ in range(_NUM_LOOKS):  # a store may once fail to find what is there
            missing = self.find_missing(missing) if missing else missing
        if missing:
            raise ContributionRejectedError(
                f"not all of the {len(parts)} parts have arrived; upload what is missing and commit again"
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
    size_bytes = sum(blob.size_bytes for blob in manifest.files)
    if size_bytes > settings.max_contribution_bytes:
        what = "the delta has" if len(manifest.files) == 1 else "the delta and what comes with it have"
        raise ContributionRejectedError(
            f"{what} {size_bytes:,} bytes, {settings.name} takes at most "
            f"{settings.max_contribution_bytes:,}; choose a smaller encoding"
        )
    if manifest.delta_digest != (digest := blob_digest(manifest.delta)):
        raise ContributionRejectedError(
            f"delta_digest is {manifest.delta_digest}, but the list of parts has {digest}; build the manifest again"
        )
    statistics = manifest.statistics
    if statistics is not None and statistics.digest != (digest := blob_digest(statistics.file)):
        raise ContributionRejectedError(
            f"the digest of the statistics is {statistics.digest}, but their list of parts has {digest}; build the "
            "manifest again"
        )


def check_round(manifest: ContributionManifest, standing: Standing) -> None:
    """Refuse a contribution to another round than the open one, or on another base than the round's."""
    if reason := screen_round(manifest, standing.state.opened, standing.round):
        raise RoundClosedError(reason)
    if not standing.state.is_open:
        raise RoundClosedError(f"round {manifest.round} is closed; {_advise(standing.state)}")
    if (opened := standing.state.opened) is None:
        return
    if reason := screen_claims(manifest, opened.screening) or screen_statistics(manifest, opened.statistics):
        raise ContributionRejectedError(reason)


def acknowledge(state: RoundState, contribution: str, round_number: int) -> ContributionVerdict:
    """Return the verdict, or that it is to come; raise if there may never be one, as the round has closed."""
    verdict = find_verdict(state, contribution)
    if verdict is None or (verdict.decision is Decision.PENDING and not state.is_open):
        raise RoundClosedError(f"round {round_number} closed before this contribution arrived; {_advise(state)}")
    return verdict


def _advise(state: RoundState) -> str:
    """Say what becomes of what came too late for a round."""
    rules = state.opened.rules if state.opened else None
    if rules is None or rules.late == "drop":
        return "wait for the next release and train on that"
    return f"commit it to the next round, where {rules.lateness}"


def _check_size(data: bytes) -> bytes:
    if len(data) > MAX_MANIFEST_BYTES:
        raise CodecError(f"manifest: {len(data):,} bytes, at most {MAX_MANIFEST_BYTES:,} are taken; use larger parts")
    return data
