"""What one end writes is what the other end reads, and what no end may write is refused."""

from dataclasses import replace

import pytest

from coldfuse.core.blob import Part
from coldfuse.core.federation import RoundRules
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.names import id_of
from coldfuse.core.statistics import StatisticsRule
from coldfuse.errors import TransportError, UserInputError
from coldfuse.gateway import (
    MAX_POLL_S,
    MIN_POLL_S,
    ContributionSummary,
    ContributionVerdict,
    Decision,
    ReleaseName,
    ReleaseSummary,
    RoundStatus,
    Status,
)
from coldfuse.transport import wire
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.text import MAX_CHARS
from coldfuse.transport.wire_rules import read_gate, write_gate

STATUS = Status(
    protocol_version=1, layout_version=2, federation="1" * 64, name="tiny", method="ties(density=0.3)",
    rules=RoundRules(quorum=3, deadline_s=4.5), max_contribution_bytes=1 << 42,
    latest=ReleaseName(number=5, model_digest="2" * 64, manifest_digest="3" * 64),
    round=RoundStatus(
        number=6, is_open=True, num_received=7, num_admitted=8, num_rejected=9, contributors=("ada", "ben"),
        waits_for="3 of 4 contributions",
    ),
    poll_after_s=0.512,
)  # fmt: skip


def summary(number: int, *, num_contributions: int = 0) -> ReleaseSummary:
    fused = ContributionSummary(contributor="ada", num_examples=7, weight=0.5, contribution="1" * 64)
    return ReleaseSummary(
        name=ReleaseName(number=number, model_digest="", manifest_digest=""), parent=None, round=0, method="mean",
        num_contributions=num_contributions, created_at_s=0.0, contributions=(fused,) * num_contributions,
    )  # fmt: skip


def test_a_status_is_read_as_it_was_written() -> None:
    assert wire.read_status(wire.write_status(STATUS)) == STATUS


def test_rules_and_the_end_of_a_round_are_read_as_they_were_written() -> None:
    rules = RoundRules(
        close="grace", grace_s=3.0, max_grace_s=9.0, spread=2.0, late="rebase", staleness="hinge(a=2, b=1)",
        max_staleness=7,
    )  # fmt: skip
    status = replace(STATUS, rules=rules, round=replace(STATUS.round, num_active=5, num_missing=0, left_s=0.5))
    assert wire.read_status(wire.write_status(status)) == status


@pytest.mark.parametrize("presence", ["require", "optional"])
def test_which_statistics_are_asked_for_is_read_as_it_was_written_and_what_nobody_knows_is_not_asked(presence) -> None:
    rule = StatisticsRule(kind="gram", presence=presence)
    message = wire.write_status(replace(STATUS, statistics=rule))
    assert wire.read_status(message).statistics == rule
    assert not wire.write_status(STATUS).HasField("statistics")
    message.statistics.kind = "hessian"
    assert wire.read_status(message).statistics == StatisticsRule()


def test_an_older_gateway_s_rules_are_those_of_before() -> None:
    message = wire.write_status(STATUS)
    message.rules.CopyFrom(pb.RoundRules(quorum=3, deadline_s=4.5))
    read = wire.read_status(message)
    assert read.rules == RoundRules(quorum=3, deadline_s=4.5)
    assert (read.rules.close, read.rules.grace_s, read.rules.late) == ("quorum", 0.0, "drop")


def test_rules_of_a_newer_gateway_that_nobody_knows_here_are_left_out() -> None:
    message = wire.write_status(STATUS)
    message.rules.close, message.rules.late = "vote", "queue"
    assert wire.read_status(message).rules == STATUS.rules


def test_a_late_contribution_s_part_in_a_release_is_read_as_it_was_written() -> None:
    fused = replace(summary(1, num_contributions=1).contributions[0], base_release=0, staleness_weight=0.5)
    page = [replace(summary(1), parent=0, contributions=(fused,), num_contributions=1)]
    assert wire.read_page(wire.write_page(iter(page), page_size=1), before=None)[0] == page


def test_a_page_is_read_as_it_was_written() -> None:
    page = [summary(3, num_contributions=2), replace(summary(2), parent=1)]
    assert wire.read_page(wire.write_page(iter(page), page_size=2), before=4) == (page, 2)


@pytest.mark.parametrize("decision", Decision)
def test_a_verdict_is_read_as_it_was_written(decision: Decision) -> None:
    verdict = ContributionVerdict(contribution="1" * 64, decision=decision, reason="δ", is_late=True)
    assert wire.read_verdict("1" * 64, wire.write_verdict(verdict)) == verdict


def test_a_decision_of_a_newer_gateway_counts_as_pending() -> None:
    assert wire.read_verdict("1" * 64, pb.Verdict(decision=77)).decision is Decision.PENDING


@pytest.mark.parametrize("which", [0, 7, "latest"])
def test_a_release_is_asked_for_by_number_or_channel(which: int | str) -> None:
    assert wire.read_which(wire.write_which(which)) == which


@pytest.mark.parametrize(
    ("asked", "num_contributions", "numbers", "next_before", "num_read"),
    [
        (2, 0, [4, 3], 3, 2),  # a full page reads nothing of the next one
        (0, 0, [4, 3, 2, 1, 0], None, 5),
        (0, 12_000, [4, 3], 3, 3),
    ],
)
def test_a_page_ends_where_it_is_full_or_long(asked, num_contributions, numbers, next_before, num_read) -> None:
    history = iter([summary(number, num_contributions=num_contributions) for number in range(4, -1, -1)])
    page = wire.write_page(history, page_size=asked)
    assert [message.release.number for message in page.releases] == numbers
    assert (page.next_before or None, len(list(history))) == (next_before, 5 - num_read)


@pytest.mark.parametrize(
    ("read", "message", "sentence"),
    [
        (wire.read_which, pb.GetReleaseRequest(), "expected a number or a channel"),
        (wire.read_header, pb.UploadPartRequest(chunk=b"x"), "expected the header first"),
        (wire.read_header, None, "expected the header first"),
        (wire.read_header, pb.UploadPartRequest(header=pb.Part(digest="../../etc/passwd")), "is no digest"),
        (wire.read_parts, pb.FindMissingRequest(parts=[pb.Part()] * 4097), "4,097 parts, at most 4,096 at a time"),
    ],
)
def test_what_no_end_may_write_is_the_callers_mistake(read, message, sentence) -> None:
    with pytest.raises(UserInputError, match=sentence):
        read(message)


def test_parts_keep_their_order() -> None:
    parts = [Part(digest=letter * 64, size_bytes=number) for number, letter in enumerate("c1a")]
    assert wire.read_parts(pb.FindMissingRequest(parts=map(wire.write_part, parts))) == parts


@pytest.mark.parametrize(("poll_after_ms", "expected_s"), [(0, MIN_POLL_S), (700, 0.7), (1 << 31, MAX_POLL_S)])
def test_a_gateway_can_have_nobody_call_without_pause_nor_wait_for_ever(poll_after_ms: int, expected_s: float) -> None:
    message = wire.write_status(STATUS)
    message.poll_after_ms = poll_after_ms
    assert wire.read_status(message).poll_after_s == expected_s


@pytest.mark.parametrize("rules", [{"quorum": 0, "deadline_s": 1.0}, {"quorum": 1, "deadline_s": float("nan")}])
def test_rules_that_are_none_are_refused(rules: dict[str, float]) -> None:
    message = wire.write_status(STATUS)
    message.rules.CopyFrom(pb.RoundRules(**rules))
    with pytest.raises(TransportError, match=r"the gateway's rules are none: (quorum 0|deadline_s nan): "):
        wire.read_status(message)


@pytest.mark.parametrize(
    ("num", "before", "next_before"), [(1, 5, 5), (1, 5, 6), (0, 5, 4), (0, None, 4)],
    ids=["the same again", "upwards", "nothing", "nothing at first"],
)  # fmt: skip
def test_a_history_that_never_ends_is_refused(num: int, before: int | None, next_before: int) -> None:
    message = pb.ListReleasesResponse(releases=[pb.ReleaseSummary()] * num, next_before=next_before)
    with pytest.raises(TransportError, match="which never ends"):
        wire.read_page(message, before=before)


@pytest.mark.parametrize("name", ["Ada\n", "Bob", "A" * 81, ""])
def test_who_does_not_go_by_this_name_is_not_shown_under_it(name: str) -> None:
    who = id_of("Ada")
    now = replace(STATUS.round, contributors=(who,), display_names={who: "Ada"})
    message = wire.write_status(replace(STATUS, round=now))
    assert wire.read_status(message).round == now

    message.round.display_names[who] = name
    assert wire.read_status(message).round.display_names == {}


def test_no_word_of_a_gateway_commands_a_terminal() -> None:
    evil = "a\nb\x1b[2J\u202e" + "x" * 2000
    message = wire.write_status(replace(STATUS, name=evil, method=evil, round=replace(STATUS.round, waits_for=evil)))
    verdict = wire.read_verdict("1" * 64, pb.Verdict(reason=evil))
    fused = replace(summary(1, num_contributions=1).contributions[0], contributor=evil)
    page, _ = wire.read_page(
        wire.write_page(iter([replace(summary(1), contributions=(fused,))]), page_size=1), before=2
    )
    status = wire.read_status(message)
    shown = [status.name, status.method, status.round.waits_for, verdict.reason, page[0].contributions[0].contributor]
    for text in shown:
        assert text.startswith("a b\ufffd[2J\ufffdxxx")
        assert len(text) == MAX_CHARS


def test_every_rule_of_a_gate_is_read_as_it_was_written_set_or_not() -> None:
    some = {"on_one": "warn", "max_missed": 4, "efficacy": 0.8, "generality": 0.0, "noise": 2.0, "wait_s": 7.0}
    for rules in (GateRules(), GateRules.model_validate({**some, "weights": [{"suite": "mood", "weight": 3.0}]})):
        assert read_gate(write_gate(rules)) == rules


def test_an_edit_and_what_was_retracted_are_read_as_they_were_written() -> None:
    fused = replace(summary(1, num_contributions=1).contributions[0], edit="capital")
    made = replace(summary(3), parent=0, contributions=(fused,), num_contributions=1)
    page = [replace(made, replaces=2, left_out=("4" * 64, "5" * 64))]
    assert wire.read_page(wire.write_page(iter(page), page_size=1), before=None)[0] == page


@pytest.mark.parametrize(
    "name", ["", "Capital", "a b", "capital\n", "a" * 51, "\x1b[2J", "a, retracted by release 2", "ä"]
)
def test_an_edit_s_name_that_can_be_none_is_not_taken_from_a_gateway(name: str) -> None:
    message = wire.write_page(iter([summary(1, num_contributions=1)]), page_size=1)
    message.releases[0].contributions[0].edit = name
    message.releases[0].left_out.extend(["4" * 64, "5" * 63, "\x1b[2J"])
    [read] = wire.read_page(message, before=None)[0]
    assert [one.edit for one in read.contributions] == [None]
    assert read.left_out == ("4" * 64,)


def test_an_older_gateway_says_nothing_of_edits() -> None:
    message = wire.write_page(iter([summary(1, num_contributions=1)]), page_size=1)
    assert not message.releases[0].contributions[0].HasField("edit")
    assert not message.releases[0].HasField("replaces")
    [read] = wire.read_page(message, before=None)[0]
    assert (read.contributions[0].edit, read.replaces, read.left_out) == (None, None, ())
