"""What a gateway says of a round and of a contribution in it."""

import pytest
from federations import BASE_DIGEST

from coldfuse.core.contribution import Admission, Rejection
from coldfuse.core.federation import RoundRules
from coldfuse.core.names import Identity
from coldfuse.core.release import Channel
from coldfuse.core.round import Abandoned, Admitted, Closed, Event, Opened, Published, Received, Rejected, fold
from coldfuse.gateway import Decision
from coldfuse.gateway.rounds import MAX_NAMES, Standing, describe_round, find_verdict

A, B = "a" * 64, "b" * 64
RULES = RoundRules(quorum=2, deadline_s=60)
OPENED = Opened(base_release=0, base_digest=BASE_DIGEST, opened_at_s=100.0)
RECEIVED = Received(contribution=A, contributor="ada", received_at_s=101.0)
ADMISSION = Admission(contribution=A, contributor="ada", delta_digest=B, num_examples=1)
ADMITTED = Admitted(admissions=(ADMISSION,))
CLOSED = Closed(contributions=(A,), reason="quorum")


def standing(*events: Event, abandoned: str | None = None) -> Standing:
    latest = Channel(release=0, round=0, manifest=A, model_digest=BASE_DIGEST)
    return Standing(latest, 3, fold(events), abandoned=abandoned, age_s=10.0)


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (standing(), "round 3 waits for an aggregator to open it"),
        (standing(OPENED), "no contribution yet, 2 make the quorum"),
        (standing(OPENED, RECEIVED), "no contribution yet, 2 make the quorum; 1 not screened yet"),
        (standing(OPENED, RECEIVED, ADMITTED), "1 of 2 contributions, 50s left"),
        (
            standing(OPENED, abandoned="too few"),
            "no contribution yet, 2 make the quorum (round 2 was abandoned: too few)",
        ),
        (standing(OPENED, ADMITTED, CLOSED), "round 3 is closed; the aggregator fuses 1 contribution"),
    ],
)
def test_the_status_says_what_a_round_waits_for(now: Standing, sentence: str) -> None:
    assert describe_round(RULES, now).waits_for == sentence


def test_a_status_counts_everybody_and_names_a_hundred() -> None:
    carried = OPENED.model_copy(update={"carried": (ADMISSION.model_copy(update={"contributor": "zoe"}),)})
    many = [
        Received(contribution=f"{number:064x}", contributor=f"n{number:03}", received_at_s=0.0) for number in range(150)
    ]
    status = describe_round(RULES, standing(carried, *many))
    assert (status.number, status.is_open, status.num_received, status.num_admitted) == (3, True, 150, 1)
    assert status.contributors == tuple(f"n{number:03}" for number in range(MAX_NAMES))
    assert "zoe" in describe_round(RULES, standing(carried)).contributors


def test_a_status_names_people_as_they_call_themselves() -> None:
    who = Identity.of("Klinik Köln")
    received = RECEIVED.model_copy(update={"contribution": B, "contributor": who.id, "display_name": who.display_name})
    status = describe_round(RULES, standing(OPENED, RECEIVED, received))
    assert status.contributors == ("ada", who.id)
    assert status.display_names == {who.id: "Klinik Köln"}
    assert status.who == ["ada", f"Klinik Köln ({who.id})"]


@pytest.mark.parametrize(
    ("events", "decision", "reason"),
    [
        ([RECEIVED], Decision.PENDING, "received; the aggregator has not screened it yet"),
        ([RECEIVED, ADMITTED], Decision.ADMITTED, "admitted; it is fused when the round closes"),
        ([ADMITTED, CLOSED, Published(release=7)], Decision.ADMITTED, "fused into release 7"),
        ([ADMITTED, Abandoned(reason="x")], Decision.ADMITTED, "it counts for the next one on the same base"),
        (
            [Admitted(admissions=(ADMISSION.model_copy(update={"reason": "all is right"}),))],
            Decision.ADMITTED,
            "all is right",
        ),
        ([Rejected(rejections=(Rejection(contribution=A, contributor="ada", reason="a copy"),))], Decision.REJECTED,
         "a copy"),
    ],
)  # fmt: skip
def test_a_verdict_says_what_becomes_of_a_contribution(events: list[Event], decision: Decision, reason: str) -> None:
    verdict = find_verdict(fold([OPENED, *events]), A)
    assert verdict is not None
    assert (verdict.contribution, verdict.decision) == (A, decision)
    assert reason in verdict.reason
    assert find_verdict(fold([OPENED, *events]), B) is None


def test_who_came_late_is_told_that_nothing_is_wrong() -> None:
    late = Rejection(contribution=A, contributor="ada", reason="late", is_late=True)
    verdict = find_verdict(fold([OPENED, CLOSED, Rejected(rejections=(late,))]), A)
    assert verdict is not None
    assert verdict.is_late
