"""What contributors have sent: every manifest, who has signed it, and whether all of it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.federation import FederationSettings
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, blob_digest, decode, sha256
from coldfuse.errors import CodecError
from coldfuse.trust.rights import SENDERS
from coldfuse.trust.view import TrustView
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.journals import SeenRound
from coldfuse.verification.membership import Signed, find_signer
from coldfuse.verification.objects import Wanted
from coldfuse.verification.tombstones import Graves


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """Looks at the contributions of one federation."""

    look: Inspection
    settings: FederationSettings
    view: TrustView | None
    """Who may have sent them; None where nobody signs."""
    wanted: Wanted
    """Collects what has to be there."""
    graves: Graves
    """Knows what was erased on purpose."""

    def of_round(self, round_: SeenRound, fused: Mapping[str, int]) -> None:
        """Look at what a round has received and carried.

        Args:
            round_: The round.
            fused: Numbers of the releases that contributions went into.
        """
        state = round_.state
        for contribution, received in sorted(state.received.items()):
            admission = state.admitted.get(contribution)
            at_s = (admission.signed_at_s if admission else None) or received.received_at_s
            self._one(
                round_, contribution, Signed(received.contributor, received.signature, at_s), admission,
                is_fused=contribution in fused,
            )  # fmt: skip
            if admission is not None and admission.signature != received.signature:
                self.look.add(
                    Cause.CONTRADICTION, f"round {round_.number}",
                    f"the contribution of {received.contributor} was admitted with another signature than it came with",
                )  # fmt: skip

        carried = {admission.contribution for admission in state.opened.carried} if state.opened else set()
        for contribution, admission in sorted(state.admitted.items()):
            if contribution not in state.received and contribution not in carried:  # nobody knows where it came from
                signed = Signed(admission.contributor, admission.signature, admission.signed_at_s or self.look.at_s)
                self._one(round_, contribution, signed, admission, is_fused=contribution in fused)

    def _one(
        self, round_: SeenRound, contribution: str, signed: Signed, admission: Admission | None, *, is_fused: bool
    ) -> None:
        where = f"round {round_.number}, the contribution of {signed.name} ({contribution[:12]})"
        key = f"objects/{contribution}"
        data = self.look.read(key)
        if data is None:
            is_collected = contribution in round_.state.rejected and not is_fused  # nobody reads it again
            if not (is_collected or self.graves.covers(contribution, where)):
                self.look.add(Cause.GAP, key, f"is missing: the manifest of {where}")
            return
        if len(data) > MAX_MANIFEST_BYTES or sha256(data) != contribution:
            self.look.add(Cause.DIGEST, key, f"is not what was sent: the manifest of {where}")
            return
        self.look.looked_at["contributions"] += 1
        try:
            manifest = decode(ContributionManifest, data, what=where)
        except CodecError as error:
            if admission is not None:  # else it was rejected for that
                self.look.error(key, error)
            return
        if admission is None:
            return  # whatever was wrong with it, it has gone into nothing
        self._facts(where, manifest, signed.name, admission)
        if self.view is not None and self.settings.is_signed_round(round_.number):
            self._signature(where, data, signed)
        self.wanted.of_contribution(manifest, where=where, is_needed=is_fused)
        self.wanted.of_admission(admission, manifest, where=where)

    def _facts(self, where: str, manifest: ContributionManifest, contributor: str, admission: Admission) -> None:
        if manifest.contributor != contributor:
            self.look.add(Cause.CONTRADICTION, where, f"its manifest names {manifest.contributor}")
        if manifest.federation != self.settings.federation:
            self.look.add(Cause.CONTRADICTION, where, "was sent to another federation")
        own = manifest.contributor, manifest.delta_digest, manifest.num_examples, blob_digest(manifest.delta)
        said = admission.contributor, admission.delta_digest, admission.num_examples, admission.delta_digest
        if own != said:
            self.look.add(Cause.CONTRADICTION, where, "was admitted with other facts than its manifest has")

    def _signature(self, where: str, data: bytes, signed: Signed) -> None:
        if self.view is None:
            return
        asker = find_signer(self.look, self.view, data, "contribution", signed, where=where)
        if asker is None:
            return
        self.look.looked_at["signatures of contributions"] += 1
        if asker.member is not None and asker.member.role not in SENDERS:
            self.look.add(Cause.UNKNOWN_KEY, where, f"{signed.name} is {asker.member.role}, and may not contribute")
