"""Who has sent what waits, proven before anything else of it is looked at, and by the leader itself.

A gateway has checked the same, and need not be trusted; nor need the workers that screen. What was sent counts from
when it was received, but never from before its round was opened, which the journal's signature proves: a gateway's word
on the time cannot bring back what was revoked before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from coldfuse.core.contribution import Admission, ContributionManifest
from coldfuse.core.round import Opened, Received
from coldfuse.core.serialization import decode
from coldfuse.core.signature import Signature
from coldfuse.errors import CodecError, DamagedObjectError, NotAllowedError, SignatureError, WorkerLostError
from coldfuse.registry.federation import Federation
from coldfuse.trust.contributing import why_not_counted, why_taken_back, why_too_large
from coldfuse.trust.members import Members
from coldfuse.trust.view import TrustView

_PARALLEL_READS = 16


@dataclass(frozen=True)
class Proof:
    """Who has signed a contribution, and from when it counts."""

    manifest: ContributionManifest
    """What its contributor has signed."""
    signature: Signature
    at_s: float
    """Seconds since 1970."""

    def require_same(self, admission: Admission) -> None:
        """Hold what a worker says of it against what its contributor has signed.

        Raises:
            WorkerLostError: It says something else, which no fault of a machine explains.
        """
        own, score = self.manifest, self.manifest.score
        signed = own.contributor, own.delta_digest, own.num_examples, score.quality if score else None
        said = admission.contributor, admission.delta_digest, admission.num_examples, admission.score
        if said != signed:
            raise WorkerLostError(
                f"contribution {admission.contribution[:12]}: a worker says that it has {said}, and its contributor "
                f"has signed {signed}; take that worker away from the cluster"
            )


@dataclass(frozen=True)
class Proven:
    """What is proven of a round's contributions."""

    proofs: dict[str, Proof] = field(default_factory=dict)
    """Of what waits and may be screened."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why others may not be fused, waiting or admitted."""
    is_needed: bool = False
    """Whether there is a root, so that what is not proven is not admitted."""

    def admit(self, admissions: Iterable[Admission]) -> list[Admission]:
        """Return admissions with their proof; one without has to wait until it can be read.

        Raises:
            WorkerLostError: The worker that has screened one of them lies.
        """
        if not self.is_needed:
            return list(admissions)
        proven = [(one, self.proofs[one.contribution]) for one in admissions if one.contribution in self.proofs]
        for one, proof in proven:
            proof.require_same(one)
        return [one.model_copy(update={"signature": p.signature, "signed_at_s": p.at_s}) for one, p in proven]


def prove(federation: Federation, waiting: Sequence[Received], there: Iterable[Admission], opened: Opened) -> Proven:
    """Prove who has sent what waits, and find what was admitted and is revoked since.

    Args:
        federation: Where it lies.
        waiting: What was received and has no verdict.
        there: What is admitted or held.
        opened: The entry that opened the round.

    Raises:
        TrustError: Root or members are not signed as they have to be.
        StorageError: The store is away.
    """
    view, admitted = federation.trust, list(there)
    if view is None:
        return Proven()
    if not (waiting or admitted):
        return Proven(is_needed=True)
    members = view.refresh().members
    reasons = {a.contribution: why for a in admitted if (why := _why_out(a, members))}
    proofs: dict[str, Proof] = {}
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        for received, found in zip(waiting, pool.map(partial(_prove, federation, view, opened), waiting), strict=True):
            if isinstance(found, Proof):
                proofs[received.contribution] = found
            elif found is not None:
                reasons[received.contribution] = found
    return Proven(proofs, reasons, is_needed=True)


def _why_out(admission: Admission, members: Members) -> str | None:
    """Return why an admission counts no more, or None."""
    if admission.signature is None or admission.signed_at_s is None:
        return "it is not signed: it was sent before this federation had a root; send it again"
    return why_taken_back(members, admission.contributor, at_s=admission.signed_at_s)


def _prove(federation: Federation, view: TrustView, opened: Opened, received: Received) -> Proof | str | None:
    """Return the proof of who has sent a contribution, or why there is none; None where it cannot be read."""
    at_s = max(received.received_at_s, opened.opened_at_s)
    try:
        data = federation.objects.get(received.contribution)
    except DamagedObjectError:  # which is found, and said, where it is screened
        return None
    what = f"contribution {received.contribution[:12]}"
    try:
        manifest = decode(ContributionManifest, data, what=what)
        if manifest.contributor != received.contributor:
            return f"its manifest names {manifest.contributor}, it came from {received.contributor}"
        asker = view.verify(data, "contribution", received.signature, name=received.contributor, what=what, at_s=at_s)
    except (CodecError, SignatureError, NotAllowedError) as error:
        return str(error)
    if why := why_not_counted(asker, is_open=view.known().root.is_open, at_s=at_s):
        return why
    size_bytes = sum(blob.size_bytes for blob in manifest.files)
    if asker.member is not None and (why := why_too_large(asker.member.quota, size_bytes)):
        return why
    if received.signature is None:  # `verify` has refused it
        return f"{what}: is not signed"
    return Proof(manifest, received.signature, at_s)
