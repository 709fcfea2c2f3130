"""A gateway that need not be trusted, asked so that nothing that it says is believed unless it is signed.

What a release is, where a channel points and what became of a contribution come with signatures, which are verified
here. What is left is how a round stands at the moment, which is for people: it can delay somebody, and make nobody
train on, send to or keep what the federation did not publish.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from coldfuse.consumer.belief import FRESH_S, Belief
from coldfuse.core.blob import Blob, Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.federation import SettingsChange
from coldfuse.core.gating import Evaluated
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.round import Admitted, LeaderEvent, Opened, Rejected
from coldfuse.core.serialization import encode, sha256
from coldfuse.core.signature import Signature
from coldfuse.errors import SignatureError, UnknownKeyError
from coldfuse.gateway import (
    PARALLEL,
    ContributionVerdict,
    Decision,
    Gateway,
    OnProgress,
    ReleaseName,
    ReleaseSummary,
    Status,
    UploadReport,
)
from coldfuse.gateway.answers import summarize
from coldfuse.registry.channels import CANDIDATE, check_channel
from coldfuse.tensors.blobs import ReadRange
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import Identity
from coldfuse.trust.seen import Memory

log = logging.getLogger(__name__)

_TRIES = 4
"""Looks at a status that is ahead of the channel: gateways give one out again for half a second."""

_PAUSE_S = 0.5

_STATEMENT = re.compile(r"releases/(\d+)\.sig")


class TrustedGateway(Gateway):
    """A federation that is known by its fingerprint, behind a gateway that may lie. Threads may share it."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        anchor: str,
        folder: FederationFolder | None = None,
        identity: Identity | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take whom to ask; nothing is asked yet.

        Args:
            gateway: Whom to ask. It is closed with this one.
            anchor: Fingerprint of the federation.
            folder: Where it is kept what was seen; None to forget it with this object.
            identity: As whom the gateway is asked, and contributions are signed; None: as nobody.
            clock: Returns the seconds since 1970.
        """
        self.identity, self.folder = identity, folder
        self.belief = Belief(gateway.read_signed, fingerprint=anchor, memory=Memory(folder), clock=clock)
        self._gateway = gateway

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the federation."""
        return self.belief.fingerprint

    @property
    def unverified(self) -> Gateway:
        """The gateway that is asked, for who verifies what it says in another way."""
        return self._gateway

    def status(self) -> Status:
        """Say where the federation stands; the latest release is the one that the signed channel names."""
        status = self._gateway.status()
        for attempt in range(_TRIES):
            channel = self.belief.channel("latest", max_age_s=0.0 if attempt else FRESH_S)
            signed = ReleaseName(
                number=channel.release, model_digest=channel.model_digest, manifest_digest=channel.manifest
            )
            if signed == status.latest:
                return self._by_signed_rules(status)
            if attempt and status.latest.number < channel.release:  # a moment old
                return self._by_signed_rules(replace(status, latest=signed))
            if attempt:
                time.sleep(_PAUSE_S)
                status = self._gateway.status()
        said = f"{status.latest.number} ({status.latest.manifest_digest[:12]})"
        raise SignatureError(
            f"the gateway says that release {said} is the latest, and the signed channel names {signed.number} "
            f"({signed.manifest_digest[:12]}); believe neither this gateway nor its store, and tell the operator"
        )

    def _by_signed_rules(self, status: Status) -> Status:
        """Let nobody but operators ask for statistics of private data."""
        if not status.statistics.wanted or status.statistics == (signed := self.belief.settings().statistics):
            return status
        log.warning(
            "the gateway asks for statistics (%s), and the federation's signed rules for %s; these are heeded",
            status.statistics, signed,
        )  # fmt: skip
        return replace(status, statistics=signed)

    def release(self, which: int | str = "latest") -> ReleaseManifest:
        """Return the manifest of a release that the federation has signed, by number or channel.

        Raises:
            TrustError: It is not signed as it has to be, or not the newest.
            FederationError: There is no such release or channel.
        """
        return self._verified(which)[0]

    def release_bytes(self, which: int | str = "latest") -> bytes:
        """Return the same as it was written."""
        return self._verified(which)[1]

    def release_name(self, number: int) -> str:
        """Return the SHA-256 of the manifest of a release that the federation has signed; raises as `release`."""
        return sha256(self._verified(number)[1])

    def _verified(self, which: int | str) -> tuple[ReleaseManifest, bytes]:
        if isinstance(which, int):
            data = self._gateway.release_bytes(which)
            return self.belief.require_release(data, which), data
        channel = self.belief.channel(check_channel(which))
        data = self._gateway.release_bytes(CANDIDATE if which == CANDIDATE else channel.release)
        return self.belief.require_named(data, channel), data

    def releases(self, *, before: int | None = None) -> Iterator[ReleaseSummary]:
        """List the history, newest first, each release as its signed manifest says.

        It ends, with a word in the log, where releases are signed by keys that were replaced since.
        """
        newest = self.belief.channel("latest").newest
        for number in range(newest if before is None else min(before - 1, newest), -1, -1):
            try:
                data = self._verified(number)[1]
            except UnknownKeyError as error:
                log.warning("%s; it and those before it are not listed", error)
                return
            yield summarize(data)

    def changes(self) -> Iterator[SettingsChange]:
        """List the changes of the federation's settings, as they are said to be."""
        return self._gateway.changes()

    def evaluation(self, release: int) -> Evaluated | None:
        """Return what the gate has decided on a release, by the signed journal of a store."""
        return self._gateway.evaluation(release)

    def read_into(self, release: int, digest: str, buffer: memoryview, start: int = 0) -> None:
        """Fill the buffer from `start` of a release's part; the caller checks its digest."""
        self._gateway.read_into(release, digest, buffer, start)

    def find_missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that the store does not hold in full, each once, in their order."""
        return self._gateway.find_missing(parts)

    def upload(
        self, blob: Blob, read_range: ReadRange, *, progress: OnProgress | None = None, parallel: int = PARALLEL
    ) -> UploadReport:
        """Store what is missing of a file, several parts at a time."""
        return self._gateway.upload(blob, read_range, progress=progress, parallel=parallel)

    def commit(self, manifest: ContributionManifest, signature: Signature | None = None) -> ContributionVerdict:
        """Hand in a contribution; what is said to be decided already is verified."""
        answer = self._gateway.commit(manifest, signature)
        return self._proven(answer, manifest.round, sha256(encode(manifest)))

    def verdict(self, round_number: int, contribution: str) -> ContributionVerdict:
        """Say what became of a contribution, by the aggregator's signed entry of the journal."""
        return self._proven(self._gateway.verdict(round_number, contribution), round_number, contribution)

    def verdict_entry(self, round_number: int, contribution: str) -> bytes | None:
        """Return the signed entry of the journal, unverified."""
        return self._gateway.verdict_entry(round_number, contribution)

    def read_signed(self, key: str) -> bytes | None:
        """Return what is signed and lies under a key; only the statement on a release is verified here."""
        data = self._gateway.read_signed(key)
        if data is not None and (found := _STATEMENT.fullmatch(key)):
            self.belief.require_statement(data, int(found.group(1)))
        return data

    def join(self, statement: bytes) -> None:
        """Bind a key to a member's name."""
        self._gateway.join(statement)

    def put_check(self, envelope: bytes) -> None:
        """Hand in a member's signed word on a release."""
        self._gateway.put_check(envelope)

    def put_score(self, envelope: bytes) -> None:
        """Hand in an evaluator's signed counts on a candidate."""
        self._gateway.put_score(envelope)

    def close(self) -> None:
        """Close the gateway that is asked."""
        self._gateway.close()

    def _proven(self, said: ContributionVerdict, round_number: int, contribution: str) -> ContributionVerdict:
        """Return a verdict, once the aggregator has signed it; that none has come yet needs no proof."""
        if said.contribution != contribution:
            raise SignatureError(
                f"the gateway answers for contribution {said.contribution[:12]}, and {contribution[:12]} was asked "
                "for; do not believe it, and ask the operator"
            )
        if said.decision is Decision.PENDING:
            return said
        data = self._gateway.verdict_entry(round_number, said.contribution)
        if data is None:
            raise SignatureError(
                f"the gateway says that contribution {said.contribution[:12]} was {said.decision.value}, and hands out "
                "no signed entry of the journal that says so; do not believe it, and ask the operator"
            )
        return _decided(self.belief.require_entry(data, round_number), said)


def _decided(entry: LeaderEvent, said: ContributionVerdict) -> ContributionVerdict:
    """Return the verdict that a signed entry gives."""
    match entry:
        case Admitted() | Opened():
            admissions = entry.admissions if isinstance(entry, Admitted) else entry.carried
            if any(each.contribution == said.contribution for each in admissions):
                reason = said.reason if said.decision is Decision.ADMITTED else "admitted"
                return ContributionVerdict(
                    contribution=said.contribution, decision=Decision.ADMITTED, reason=reason
                )  # fmt: skip
        case Rejected():
            for rejection in entry.rejections:
                if rejection.contribution == said.contribution:
                    return ContributionVerdict(
                        contribution=said.contribution, decision=Decision.REJECTED, reason=rejection.reason,
                        is_late=rejection.is_late, send_again=said.send_again,
                    )  # fmt: skip
    raise SignatureError(
        f"the signed entry that is handed out as the verdict on contribution {said.contribution[:12]} says nothing of "
        "it; do not believe this gateway, and ask the operator"
    )
