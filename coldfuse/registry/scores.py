"""Keeping what evaluators say of candidates, and reading it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from coldfuse.core.gate_rules import MAX_EVALUATORS, GateRules
from coldfuse.core.gating import Asked
from coldfuse.core.round import Fused, RoundState
from coldfuse.errors import (
    CodecError,
    ConflictError,
    FederationError,
    NotAllowedError,
    ObjectNotFoundError,
    SignatureError,
)
from coldfuse.storage.base import ObjectStore, get_if_there
from coldfuse.trust.score import MAX_SCORE_BYTES, MAX_WORDS, Score, claimed_score, read_score, score_key, scores_of
from coldfuse.trust.view import TrustView

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The candidate that waits for evaluators."""

    round: int
    manifest: str
    """Digest of its manifest."""
    base_digest: str
    """Model digest of its base."""
    rules: GateRules


def asked_in(number: int, state: RoundState) -> Waiting | None:
    """Return the candidate of a round that evaluators were asked about last, decided on or not; None if there is none.

    What is said of it too late counts in no decision, but shows that somebody is there.
    """
    opened, asked = state.opened, state.gating.asked
    if asked is None or opened is None or opened.terms is None or opened.terms.gate is None:
        return None
    return Waiting(
        round=number, manifest=asked.manifest, base_digest=opened.base_digest, rules=opened.terms.gate
    )  # fmt: skip


def waiting_of(number: int, state: RoundState) -> Waiting | None:
    """Return the candidate of a round that evaluators were asked about and that is not decided on; None if none is."""
    found, fused, asked = asked_in(number, state), state.fused, state.gating.asked
    if found is None or fused is None or asked is None or state.is_over:
        return None
    return found if _is_undecided(state, fused, asked) else None


def _is_undecided(state: RoundState, fused: Fused, asked: Asked) -> bool:
    if asked.contributions:  # a model without some of them, tried as the whole has failed
        return state.gating.has_failed(fused.manifest) and frozenset(asked.contributions) not in state.gating.heard
    return asked.manifest == fused.manifest and state.gating.of(fused.manifest) is None


@dataclass(frozen=True)
class Word:
    """What an evaluator has said of a candidate."""

    score: Score
    envelope: bytes


def put_score(
    store: ObjectStore,
    envelope: bytes,
    view: TrustView,
    *,
    waiting: Waiting | None,
    now_s: float,
    late: Waiting | None = None,
) -> bool:
    """Keep an evaluator's counts on the candidate that waits for them; its last word counts.

    Args:
        store: The federation's store.
        envelope: The signed counts.
        view: Who the members are.
        waiting: The candidate that waits; None if none does.
        now_s: Seconds since 1970.
        late: The last candidate that was asked about, if it waits no more: what is said of it is kept, as a sign that
            somebody is there, and refused all the same.

    Returns:
        True if it is new, False if the member has said the very same before.

    Raises:
        CodecError: It is none, or too long for one.
        SignatureError: It is not signed by the member that it names.
        NotAllowedError: That member may not speak, or it is about another federation.
        FederationError: No candidate waits for it (any more), or it answers for more suites than the rules take.
        ConflictError: The member has said something newer, or more than it may.
    """
    what = "the score"
    claimed_score(envelope)  # its size, first
    score, _ = read_score(view, envelope, now_s=now_s, is_new=True, what=what)
    if late is not None and (score.round, score.manifest) == (late.round, late.manifest):
        _require_about(score, view.known().fingerprint, late)
        store.put_if_absent(score_key(score.round, score.manifest, score.member), envelope)
        raise FederationError(
            f"the score: candidate {score.manifest[:12]} of round {score.round} was decided on before it came, so it "
            f"does not count; it shows that {score.member} is there, who is waited for again"
        )
    _require_about(score, view.known().fingerprint, waiting)
    key = score_key(score.round, score.manifest, score.member)
    if score.number == 0 and store.put_if_absent(key, envelope):
        return True
    there, etag = _there(store, key)
    if there == envelope:
        return False
    last = _number(view, there, now_s=now_s)
    if score.number != last + 1:
        raise ConflictError(
            f"{what}: {score.member} has said {last + 1} words on this candidate, and this would be word "
            f"{score.number + 1}; at most {MAX_WORDS} are taken, each once"
        )
    store.compare_and_swap(key, envelope, etag=etag)
    return True


def who_has_answered(store: ObjectStore, waiting: Waiting) -> frozenset[str]:
    """Return the members who have said something of a candidate; what they said is not looked at."""
    keys = store.list(scores_of(waiting.round, waiting.manifest), limit=MAX_EVALUATORS).keys
    return frozenset(key.rpartition("/")[2].removesuffix(".json") for key in keys)


def read_scores(
    store: ObjectStore, view: TrustView, members: Collection[str], *, waiting: Waiting, now_s: float
) -> list[Word]:
    """Return what these members have said of a candidate, in the order of their names; what is forged counts not."""
    found = []
    for member in sorted(members):
        key = score_key(waiting.round, waiting.manifest, member)
        data = get_if_there(store, key, length=MAX_SCORE_BYTES + 1)
        if data is None:
            continue
        try:
            score, _ = read_score(view, data, now_s=now_s, what=key)
            _require_about(score, view.known().fingerprint, waiting)
            if score.member != member:
                raise NotAllowedError(f"{key}: is {score.member}'s, put elsewhere")
        except (CodecError, SignatureError, NotAllowedError, FederationError) as error:
            log.warning("a score does not count: %s", error)
            continue
        found.append(Word(score, data))
    return found


def _require_about(score: Score, fingerprint: str, waiting: Waiting | None) -> None:
    if score.federation != fingerprint:
        raise NotAllowedError(f"the score: is of the federation {score.federation[:12]}, this is {fingerprint[:12]}")
    if waiting is None or (score.round, score.manifest) != (waiting.round, waiting.manifest):
        raise FederationError(
            f"the score: is on candidate {score.manifest[:12]} of round {score.round}, which does not wait for scores; "
            "it was decided on, or another one waits"
        )
    if score.base_digest != waiting.base_digest:
        raise FederationError(
            f"the score: compares with {score.base_digest[:12]}, and the base of round {score.round} is "
            f"{waiting.base_digest[:12]}; fetch that"
        )
    if len(score.counts) > waiting.rules.max_suites:
        raise FederationError(
            f"the score: answers for {len(score.counts)} suites, at most {waiting.rules.max_suites} are taken here"
        )


def _there(store: ObjectStore, key: str) -> tuple[bytes, str | None]:
    try:
        return store.get_with_etag(key)
    except ObjectNotFoundError:
        return b"", None


def _number(view: TrustView, data: bytes, *, now_s: float) -> int:
    """Return the number of the word that is there; -1 where there is none that counts."""
    try:
        return read_score(view, data, now_s=now_s)[0].number if data else -1
    except (CodecError, SignatureError, NotAllowedError):  # damaged, or of a key that is the member's no more
        return -1
