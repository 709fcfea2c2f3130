"""Fusing one release again out of an auditable federation, by a member that has nothing but a gateway's address."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.federation import FederationSettings
from coldfuse.core.serialization import sha256
from coldfuse.engine.execution import Executor
from coldfuse.errors import ColdfuseError
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore
from coldfuse.trust.view import TrustView
from coldfuse.verification.causes import Cause
from coldfuse.verification.findings import Finding, Recomputed
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.journals import Journals, SeenRound
from coldfuse.verification.membership import Signed, find_signer
from coldfuse.verification.mirror import Mirror
from coldfuse.verification.recompute import Recomputing
from coldfuse.verification.releases import Lineage, SeenRelease, numbers_of_releases
from coldfuse.verification.rules import all_terms
from coldfuse.verification.signers import follow_roots
from coldfuse.verification.verdicts import problems_of


def recompute_over(
    gateway: TrustedGateway, number: int, *, executor: Executor, now_s: float, scratch: Path | None = None
) -> Recomputed:
    """Bring what a release was made from, and fuse it again. What was brought is removed.

    Args:
        gateway: Whom to ask, as a member.
        number: Number of the release.
        executor: Runs the tasks.
        now_s: Seconds since 1970.
        scratch: Folder for what is brought; None: the system's.

    Raises:
        TransportError: The gateway is away.
    """
    data = gateway.release_bytes(number)
    with tempfile.TemporaryDirectory(prefix="coldfuse-verify-", dir=scratch) as folder:
        store = LocalStore(Path(folder) / "store")
        try:
            Mirror(gateway, store).bring(number)
            return _Remote(gateway, Inspection(store, now_s), executor).again(number, sha256(data))
        except ColdfuseError as error:
            why = f"what it was made from cannot be had: {error}"
            return Recomputed(release=number, manifest=sha256(data), agrees=None, why=why)


class _Remote:
    def __init__(self, gateway: TrustedGateway, look: Inspection, executor: Executor) -> None:
        self._gateway, self._look, self._executor = gateway, look, executor

    def again(self, number: int, digest: str) -> Recomputed:
        settings = self._gateway.belief.settings()
        signers = follow_roots(self._look, self._gateway.fingerprint)
        lineage = Lineage(self._look, settings, signers)
        release = lineage.read(number, digest)
        if release is None or release.manifest.parent is None:
            return Recomputed(release=number, manifest=digest, agrees=None, why="it is a base, which nobody has fused")
        parent = lineage.read(release.manifest.parent, release.statement.parent if release.statement else None)
        journals = Journals(self._look, settings, signers)
        there = {int(key.split("/")[1]) for key in self._look.store.list("rounds/").keys}
        rounds = {one: journals.read(one, before=None, is_alone=True) for one in sorted(there)}
        for cause, why in self._problems(settings, release, rounds.get(release.manifest.round)):
            self._look.add(cause, f"round {release.manifest.round}", why)
        findings = self._look.findings.sorted()
        if findings or parent is None:
            agrees = False if findings and all(map(_is_proof, findings)) else None
            why = str(findings[0]) if findings else "its parent is not there"
            return Recomputed(release=number, manifest=digest, agrees=agrees, why=why)
        replaced = (lineage.read(one, None) for one in numbers_of_releases(self._look.store))
        recomputing = Recomputing(
            federation=Federation(self._look.store, settings), rounds=rounds, executor=self._executor,
            releases={one.number: one for one in replaced if one is not None},
        )  # fmt: skip
        return recomputing.again(release, parent)

    def _problems(
        self, settings: FederationSettings, release: SeenRelease, round_: SeenRound | None
    ) -> Iterator[tuple[Cause, str]]:
        """Return what its round contradicts; that nothing was received is no sign, as that is not brought."""
        if round_ is None:
            return
        self._look_at_contributors(round_)
        opened, change = round_.state.opened, settings.change
        known = set(all_terms(settings, [change] if change else []))
        if change is not None and change.number > 1 and opened is not None and opened.terms is not None:
            known.add(opened.terms)  # what they were before, the store alone says
        for cause, why in problems_of(round_, before=None, releases={release.number: release}, terms=known):
            if cause is Cause.CONTRADICTION:
                yield cause, why

    def _look_at_contributors(self, round_: SeenRound) -> None:
        known = self._gateway.belief.known()
        view = TrustView(
            self._gateway.read_signed, fingerprint=known.fingerprint, root=known.root, members=known.members.version
        )
        closed = round_.state.closed
        for contribution in closed.contributions if closed else ():
            admission = round_.state.admitted.get(contribution)
            data = self._look.read(f"objects/{contribution}")
            if admission is None or data is None:
                continue
            at_s = self._look.at_s if admission.signed_at_s is None else admission.signed_at_s
            where = f"the contribution of {admission.contributor} ({contribution[:12]})"
            signed = Signed(admission.contributor, admission.signature, at_s)
            find_signer(self._look, view, data, "contribution", signed, where=where)


def _is_proof(finding: Finding) -> bool:
    """Tell what an aggregator must have signed itself from what a gateway could have brought about."""
    return finding.where.startswith(("round ", "the contribution of "))
