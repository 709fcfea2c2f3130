"""What a contribution must be before it is taken."""

import pytest
from federations import BASE_DIGEST, FEDERATION, make_delta, make_manifest

from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.federation import FederationSettings, RoundRules
from coldfuse.core.release import Channel
from coldfuse.core.round import Abandoned, Admitted, Closed, Opened, Received, Rejected, fold
from coldfuse.errors import CodecError, ContributionRejectedError, RoundClosedError
from coldfuse.gateway import Decision
from coldfuse.gateway.contributions import MAX_MANIFEST_BYTES, acknowledge, check_manifest, check_round, read_manifest
from coldfuse.gateway.rounds import Standing

DELTA = make_delta([10, 20]).blob
OTHER = "0" * 64
OPENED = Opened(base_release=0, base_digest=BASE_DIGEST, opened_at_s=100.0)
CLOSED = Closed(contributions=(OTHER,), reason="quorum")
SETTINGS = FederationSettings(
    federation=FEDERATION,
    name="tiny",
    rules=RoundRules(quorum=2, deadline_s=60),
    method="mean",
    created_at_s=0.0,
    base="x",
    release_zero=OTHER,
    max_contribution_bytes=30,
)


def standing(*events, round_number=1):
    return Standing(Channel(release=0, round=0, manifest=OTHER, model_digest=BASE_DIGEST), round_number, fold(events))


def received(contribution=OTHER):
    return Received(contribution=contribution, contributor="ada", received_at_s=101.0)


def test_a_good_contribution_passes():
    check_manifest(make_manifest(DELTA), SETTINGS)
    check_round(make_manifest(DELTA), standing(OPENED))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"federation": OTHER}, "check the address"),
        ({"delta_digest": OTHER}, "build the manifest again"),
        ({"delta": make_delta([31]).blob}, "at most 30"),
        ({"display_name": "Ada"}, "the id of 'Ada' is ada-"),
    ],
)
def test_what_no_round_could_take_is_refused(changes, sentence):
    with pytest.raises(ContributionRejectedError, match=sentence):
        check_manifest(make_manifest(DELTA, **changes), SETTINGS)


@pytest.mark.parametrize(
    ("changes", "now", "kind", "sentence"),
    [
        ({}, standing(OPENED, CLOSED), RoundClosedError, "round 1 is closed"),
        ({}, standing(OPENED, Abandoned(reason="x")), RoundClosedError, "round 1 is closed"),
        ({}, standing(OPENED, round_number=2), RoundClosedError, "train for round 2"),
        ({}, standing(), ContributionRejectedError, "not open yet"),
        ({"round": 2}, standing(OPENED), ContributionRejectedError, "round 2 is not open yet"),
        ({"base_digest": OTHER}, standing(OPENED), RoundClosedError, "fetch that release"),
        ({"base_release": 7}, standing(OPENED), RoundClosedError, "relative to release 7"),
    ],
)
def test_only_the_open_round_on_its_own_base_takes_it(changes, now, kind, sentence):
    with pytest.raises(kind, match=sentence):
        check_round(make_manifest(DELTA, **changes), now)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"version": 1}', b"\xff", b" " * (MAX_MANIFEST_BYTES + 1)])
def test_anything_but_a_manifest_is_refused(data):
    with pytest.raises(CodecError, match="manifest"):
        read_manifest(data)


def test_an_open_round_acknowledges():
    assert acknowledge(fold([OPENED, received()]), OTHER, 1).decision == Decision.PENDING


def test_a_round_that_closed_meanwhile_acknowledges_nothing():
    with pytest.raises(RoundClosedError, match="closed before"):
        acknowledge(fold([OPENED, CLOSED, received()]), OTHER, 1)


def test_a_verdict_is_the_answer_even_after_the_end():
    admission = Admission(contribution=OTHER, contributor="ada", delta_digest=OTHER, num_examples=1)
    admitted = fold([OPENED, received(), Admitted(admissions=(admission,)), CLOSED])
    assert acknowledge(admitted, OTHER, 1).decision == Decision.ADMITTED
    rejection = Rejection(contribution=OTHER, contributor="ada", reason="a copy of bob's")
    rejected = acknowledge(fold([OPENED, received(), Rejected(rejections=(rejection,)), CLOSED]), OTHER, 1)
    assert (rejected.decision, rejected.reason) == (Decision.REJECTED, "a copy of bob's")
