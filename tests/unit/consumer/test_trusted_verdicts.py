"""What became of a contribution is believed by the aggregator's signature."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from federation_keys import TinyTrust
from told import CONTRIBUTION, OTHER, Told, trusted

from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.contribution import Admission, ContributionManifest, Rejection
from coldfuse.core.round import Admitted, Closed, LeaderEvent, Opened, Rejected
from coldfuse.errors import CodecError, SignatureError
from coldfuse.gateway import ContributionVerdict, Decision
from coldfuse.trust.keys import PrivateKey


@pytest.fixture
def told() -> Told:
    return Told(TinyTrust())


def admission() -> Admission:
    return Admission(contribution=CONTRIBUTION, contributor="ada", delta_digest="0" * 64, num_examples=1)


def say(told: Told, decision: Decision) -> TrustedGateway:
    told.publish(0)
    told.verdicts[CONTRIBUTION] = ContributionVerdict(
        contribution=CONTRIBUTION, decision=decision, reason="fused into release 1"
    )
    return trusted(told)


REJECTION = Rejection(contribution=CONTRIBUTION, contributor="ada", reason="too long", is_late=True)


@pytest.mark.parametrize(
    ("event", "decision", "reason"),
    [
        (Admitted(admissions=(admission(),)), Decision.ADMITTED, "fused into release 1"),
        (Rejected(rejections=(REJECTION,)), Decision.REJECTED, "too long"),
        (
            Opened(base_release=0, base_digest="0" * 64, opened_at_s=1.0, carried=(admission(),)),
            Decision.ADMITTED, "fused into release 1",
        ),
    ],
)  # fmt: skip
def test_a_verdict_is_the_one_that_was_signed(told: Told, event: LeaderEvent, decision: Decision, reason: str) -> None:
    gateway = say(told, Decision.ADMITTED)
    told.decide(event)
    found = gateway.verdict(1, CONTRIBUTION)
    assert (found.decision, found.reason) == (decision, reason)


@pytest.mark.parametrize(
    ("forge", "sentence"),
    [
        (lambda told: None, "hands out no signed entry of the journal that says so"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), by=PrivateKey.generate()), "is signed by"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), by=told.trust.operator), "is signed by"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), round=2), "is an entry of round 2"),
        (lambda told: told.decide(Admitted(admissions=(admission(),)), federation="f" * 64), "of federation ffff"),
        (lambda told: told.decide(Closed(contributions=(CONTRIBUTION,), reason="x")), "says nothing of it"),
        (
            lambda told: told.decide(Admitted(admissions=(admission().model_copy(update={"contribution": OTHER}),))),
            "says nothing of it",
        ),
    ],
    ids=["none", "stranger", "operator", "round", "federation", "kind", "other"],
)
@pytest.mark.parametrize("decision", [Decision.ADMITTED, Decision.REJECTED])
def test_a_verdict_that_nobody_has_signed_is_not_believed(
    told: Told, decision: Decision, forge: Callable[[Told], None], sentence: str
) -> None:
    gateway = say(told, decision)
    forge(told)
    with pytest.raises(SignatureError, match=sentence):
        gateway.verdict(1, CONTRIBUTION)


def test_a_statement_is_no_verdict(told: Told) -> None:
    gateway = say(told, Decision.ADMITTED)
    told.entries[CONTRIBUTION] = told.trust.stored["releases/00000.sig"]
    with pytest.raises(CodecError, match="is signed as"):
        gateway.verdict(1, CONTRIBUTION)


def test_a_verdict_of_before_the_key_was_replaced_counts(told: Told) -> None:
    gateway = say(told, Decision.REJECTED)
    told.decide(Rejected(rejections=(REJECTION,)))
    told.trust.aggregator = PrivateKey.generate()
    told.trust.rotate()
    assert gateway.verdict(1, CONTRIBUTION).is_late


def test_that_nothing_was_decided_needs_no_proof(told: Told) -> None:
    assert say(told, Decision.PENDING).verdict(1, CONTRIBUTION).decision is Decision.PENDING


@pytest.mark.parametrize("decision", list(Decision))
def test_a_verdict_on_another_contribution_is_none_on_this_one(told: Told, decision: Decision) -> None:
    gateway = say(told, decision)
    told.decide(Admitted(admissions=(admission(),)))  # signed, and about what it says
    told.verdicts[OTHER] = told.verdicts[CONTRIBUTION]
    with pytest.raises(SignatureError, match=f"{OTHER[:12]} was asked"):
        gateway.verdict(1, OTHER)
    manifest = ContributionManifest.model_construct(round=1)
    with pytest.raises(SignatureError, match="was asked"):
        gateway.commit(manifest)
