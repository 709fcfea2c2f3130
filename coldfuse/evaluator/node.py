"""Waits for candidates, scores each beside its base on private examples, and hands in two counts a suite, signed."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse import __version__
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.gate_asking import may_ask, with_noise
from coldfuse.core.gate_rules import GateRules, SuiteCounts
from coldfuse.core.release import Channel, ReleaseManifest
from coldfuse.errors import (
    CodecError,
    ConflictError,
    DigestMismatchError,
    FederationError,
    SignatureError,
    StorageError,
    TransportError,
    UserInputError,
)
from coldfuse.evaluation.measured import Outcomes, nothing_right
from coldfuse.evaluation.suite_counts import counts_of
from coldfuse.evaluation.suites import Suite
from coldfuse.evaluator.bringing import bring
from coldfuse.evaluator.folder import EvaluatorFolder
from coldfuse.registry.channels import CANDIDATE
from coldfuse.trust.envelope import read_envelope, verify_detached
from coldfuse.trust.identity import Identity
from coldfuse.trust.rights import Asker, require_right
from coldfuse.trust.score import Score, sign_score

Say = Callable[[str], None]
"""say(line): tells the user what happens; what is said twice in a row is said once."""

ScoreFolder = Callable[[Path, Sequence[Suite]], "list[Outcomes]"]
"""score(model_dir, suites): how well the model in a folder does on each example of every suite."""

_MOST_PAUSE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """An evaluator at work."""

    gateway: TrustedGateway
    """Whom to ask for candidates, and who takes the counts."""
    identity: Identity
    """As which member."""
    suites: Sequence[Suite]
    folder: EvaluatorFolder
    say: Say
    noise: float = 0.0
    """Scale of the noise on each count, in examples, where the federation's rules ask for less."""
    score: ScoreFolder | None = None
    """Scores a model; None: `evaluation.outcomes.score_folder`."""
    clock: Callable[[], float] = time.time
    _sent: set[str] = field(default_factory=set, repr=False)
    """Candidates on which the counts were taken."""

    def run(self, stop: threading.Event, *, candidates: int | None = None) -> None:
        """Answer for candidates as they come, until stopped, or until so many were answered.

        Raises:
            ColdfuseError: A suite cannot be used with the model, this member may not answer, or what is handed out is
                not signed as it has to be.
        """
        pause_s = 1.0
        while not stop.is_set() and (candidates is None or len(self._sent) < candidates):
            try:
                pause_s = min(max(self.gateway.status().poll_after_s, 0.2), _MOST_PAUSE_S)
                self.look()
            except TransportError as error:  # away, or about to be renewed: it is asked again
                self.say(f"the gateway is away: {error}; trying again")
                pause_s = min(2 * pause_s, _MOST_PAUSE_S)
            except ValueError:  # gRPC's word for a call after hanging up: it was asked to stop
                return
            if candidates is None or len(self._sent) < candidates:
                stop.wait(pause_s)

    def look(self) -> bool:
        """Answer for the candidate that waits, if one does and was not answered; True if counts were taken just now.

        Raises:
            ColdfuseError: As `run`.
        """
        try:
            channel = self.gateway.belief.channel(CANDIDATE)
        except FederationError:  # there was no candidate yet
            return False
        if channel.manifest in self._sent or not self._is_wanted(channel):
            return False
        envelope = self._kept(channel)
        try:
            if envelope is None and (envelope := self._answer(channel)) is None:
                return False
        except (FederationError, StorageError, DigestMismatchError) as error:  # it makes way, or arrives damaged
            self.say(f"round {channel.round}: candidate {channel.manifest[:12]} cannot be scored now: {error}")
            return False
        return self._hand_in(channel, envelope)

    def _kept(self, channel: Channel) -> bytes | None:
        """Return what was signed of a candidate before; None where nothing was, or nobody would take it any more."""
        envelope = self.folder.answer(channel.manifest)
        if envelope is None:
            return None
        what = "the kept answer"
        try:
            signed = read_envelope(envelope, what=what)
            payload = signed.content("score", what=what)
            verify_detached(payload, "score", signed.signatures, keys=[self.identity.signer.public], what=what)
        except (CodecError, SignatureError) as error:  # damaged, or by a key that another has followed
            self.say(f"round {channel.round}: candidate {channel.manifest[:12]} is scored again: {error}")
            return None
        return envelope

    def _is_wanted(self, channel: Channel) -> bool:
        """Tell whether an answer for a candidate is of use: in its round, or in the next, to be waited for again."""
        rules = self.gateway.belief.settings().gate
        late = 1 if rules is not None and rules.max_missed is not None else 0
        return channel.round <= self.gateway.status().round.number <= channel.round + late

    def _answer(self, channel: Channel) -> bytes | None:
        """Return the signed counts on a candidate, kept; None where the rules let nobody ask these suites again."""
        rules = self.gateway.belief.settings().gate or GateRules.off()
        may, why = may_ask(rules, self.folder.rounds_answered(), round_number=channel.round)
        if not may:
            self.say(f"round {channel.round}: its candidate {channel.manifest[:12]} is not answered: {why}")
            return None
        candidate = self.gateway.release(CANDIDATE)
        if candidate.round != channel.round or candidate.parent is None:  # another one has come meanwhile
            return None
        base = self.gateway.release(candidate.parent)
        self.say(f"round {channel.round}: scores candidate {channel.manifest[:12]} and release {base.release}")
        counts = self._counts(base, candidate, rules)
        score = Score(
            federation=self.gateway.fingerprint, member=self.identity.name, round=channel.round,
            manifest=channel.manifest, base_digest=base.model_digest, counts=counts, scored_at_s=self.clock(),
            software={"coldfuse": __version__},
        )  # fmt: skip
        envelope = sign_score(score, self.identity)
        self.folder.keep_answer(channel.round, channel.manifest, envelope)
        for one in counts:
            self.say(
                f"round {channel.round}: {one.suite}: {one.only_before:,} right only before, {one.only_after:,} only "
                f"after, of {one.num_examples:,}"
            )
        return envelope

    def _counts(self, base: ReleaseManifest, candidate: ReleaseManifest, rules: GateRules) -> tuple[SuiteCounts, ...]:
        before = self._base_outcomes(base)
        try:
            after = self._score(candidate)
        except UserInputError as error:  # the base could be scored: the candidate is broken
            self.say(f"candidate of round {candidate.round} cannot be scored, so it gets nothing right: {error}")
            after = [nothing_right(outcomes) for outcomes in before]
        counts: list[SuiteCounts] = []
        for suite, was, now in zip(self.suites, before, after, strict=True):
            counts += counts_of(suite, was, now, evaluator=self.identity.name)
        return tuple(self._noised(one, rules) for one in counts)

    def _noised(self, counts: SuiteCounts, rules: GateRules) -> SuiteCounts:
        """Return counts with noise; where it is more than the rules know of, within what examples can have."""
        noised = with_noise(counts, max(rules.noise, self.noise), secrets.SystemRandom().random)
        if self.noise <= rules.noise:
            return noised
        before = min(max(noised.only_before, 0), counts.num_examples)
        after = min(max(noised.only_after, 0), counts.num_examples - before)
        right = noised.num_right
        if right is not None:
            right = min(max(right, after), counts.num_examples - before)
        return noised.model_copy(update={"only_before": before, "only_after": after, "num_right": right})

    def _base_outcomes(self, base: ReleaseManifest) -> list[Outcomes]:
        known = [self.folder.outcomes(base.model_digest, suite) for suite in self.suites]
        if all(each is not None for each in known):
            return [each for each in known if each is not None]
        found = self._score(base)
        for suite, outcomes in zip(self.suites, found, strict=True):
            self.folder.keep_outcomes(base.model_digest, suite, outcomes)
        return found

    def _score(self, release: ReleaseManifest) -> list[Outcomes]:
        with tempfile.TemporaryDirectory(prefix="model-", dir=self.folder.path) as scratch:
            bring(self.gateway, release, Path(scratch))
            return list((self.score or _score)(Path(scratch), self.suites))

    def _hand_in(self, channel: Channel, envelope: bytes) -> bool:
        try:
            self.gateway.put_score(envelope)
        except FederationError as error:  # it was decided on meanwhile, or is asked about in a moment
            self.say(f"round {channel.round}: the counts are not taken: {error}")
            return False
        except ConflictError as error:  # from another folder, which is lost
            self.say(f"round {channel.round}: {error}")
            self._sent.add(channel.manifest)
            return False
        self._sent.add(channel.manifest)
        self.say(f"round {channel.round}: counts on candidate {channel.manifest[:12]} handed in")
        return True


def _score(model_dir: Path, suites: Sequence[Suite]) -> list[Outcomes]:
    from coldfuse.evaluation.outcomes import score_folder

    return score_folder(model_dir, suites)


def require_evaluator(gateway: TrustedGateway, identity: Identity) -> None:
    """Refuse whoever may not answer, before anything is scored.

    Raises:
        NotAllowedError: As the gateway would raise it at the end.
    """
    known = gateway.belief.known()
    asker = Asker(
        name=identity.name, member=known.members.members.get(identity.name), keyid=identity.signer.public.id
    )  # fmt: skip
    require_right("PutScore", asker, is_open=known.root.is_open, now_s=0.0)
