"""Rounds with a gate: what is no worse is published, what harms is found and left out, and else the base stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from gated import SignSuite, contribute_all, examiner, gated_federation, lead_gated, lesson
from tiny_rounds import contribute, make_federation, make_model

from coldfuse.core.gate_rules import GateRules
from coldfuse.core.gating import Evaluated, Tried
from coldfuse.core.round import Abandoned, Fused, Published, Rejected
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.verification.causes import Cause
from coldfuse.verification.store import Request, verify_store


def kinds(events: list[object]) -> list[str]:
    return [type(event).__name__ for event in events]


def is_sound(federation: object) -> list[str]:
    report = verify_store(federation.store, Request(at_s=0.0, executor=ThreadExecutor(1)))  # type: ignore[attr-defined]
    return [str(finding) for finding in report.findings if finding.cause is not Cause.UNSIGNED]


def test_what_is_no_worse_is_published_with_its_counts_in_the_journal(tmp_path: Path) -> None:
    federation = gated_federation(tmp_path)
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.3, "ben": 0.2, "cy": 0.25})
    events = lead_gated(federation)
    assert kinds(events)[-3:] == ["Fused", "Evaluated", "Published"]
    found = events[-2]
    assert isinstance(found, Evaluated)
    assert found.decision.publish
    assert found.counts[0].suite == "signs"
    assert found.counts[0].only_after > found.counts[0].only_before
    assert federation.latest().release == 1
    assert is_sound(federation) == []


def test_a_harmful_contribution_is_named_left_out_and_the_rest_published(tmp_path: Path) -> None:
    federation = gated_federation(tmp_path)
    lead_gated(federation)
    sent = contribute_all(federation, {"ada": 0.3, "ben": 0.2, "cy": 0.25, "eve": -3.0})
    # eve's is the fourth: the round has closed on three by then, unless all are there in time
    events = lead_gated(federation)
    rejected = [event for event in events if isinstance(event, Rejected)]
    assert [each.contribution for event in rejected for each in event.rejections] == [sent["eve"]]
    assert "left out by the gate" in rejected[0].rejections[0].reason
    assert [event.decision.publish for event in events if isinstance(event, Evaluated)] == [False, True]
    assert len([event for event in events if isinstance(event, Tried)]) == 4
    assert isinstance(events[-1], Published)
    release = federation.latest()
    assert {one.contributor for one in release.contributions} == {"ada", "ben", "cy"}
    assert is_sound(federation) == []


def test_the_release_without_what_harms_is_the_one_of_a_round_that_never_had_it(tmp_path: Path) -> None:
    federation, other = gated_federation(tmp_path / "a"), gated_federation(tmp_path / "b")
    for each, shares in ((federation, {"eve": -3.0}), (other, {})):
        lead_gated(each)
        for place, (name, share) in enumerate({"ada": 0.3, "ben": 0.2, "cy": 0.25, **shares}.items()):
            contribute(each, name, lesson(share, seed=place))
        lead_gated(each)
    assert federation.latest().model_digest == other.latest().model_digest


def test_killed_before_any_entry_another_leader_comes_to_the_same_entries(tmp_path: Path) -> None:
    shares = {"ada": 0.3, "ben": 0.2, "cy": 0.25, "eve": -3.0}
    federation, other = gated_federation(tmp_path / "a"), gated_federation(tmp_path / "b")
    for each, steps in ((federation, None), (other, 1)):
        lead_gated(each)
        contribute_all(each, shares)
        while lead_gated(each, steps=steps):  # a leader that ends after every step
            pass
    one, two = (each.journal(1).state() for each in (federation, other))
    assert [(e.counts, e.decision) for e in one.gating.evaluations] == [
        (e.counts, e.decision) for e in two.gating.evaluations
    ]
    assert sorted(map(str, one.gating.tried.values())) == sorted(map(str, two.gating.tried.values()))
    assert federation.latest().model_digest == other.latest().model_digest


def test_too_few_left_keep_the_base_and_what_harms_is_not_carried(tmp_path: Path) -> None:
    federation = gated_federation(tmp_path, quorum=2)
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.3, "eve": -3.0})
    events = lead_gated(federation)
    assert isinstance(events[-1], Abandoned)
    assert "1 contribution of 2 are left" in events[-1].reason
    opened = lead_gated(federation, 2)[0]
    assert [one.contributor for one in opened.carried] == ["ada"]  # type: ignore[union-attr]
    contribute(federation, "ben", lesson(0.2, seed=9))
    assert isinstance(lead_gated(federation, 2)[-1], Published)
    assert is_sound(federation) == []


def test_where_no_single_one_harms_the_base_stays_and_the_same_set_is_not_tried_again(tmp_path: Path) -> None:
    federation = gated_federation(tmp_path, gate=GateRules(require="better"), quorum=2)
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.0001, "ben": 0.0001})  # neither better nor worse
    events = lead_gated(federation)
    assert isinstance(events[-1], Abandoned)
    assert "release 0 stays the base" in events[-1].reason
    assert kinds(lead_gated(federation, 2)) == ["Opened"]  # it waits for more
    contribute(federation, "cy", lesson(0.5, seed=3))
    assert isinstance(lead_gated(federation, 2)[-1], Published)


def test_a_looser_gate_has_the_same_contributions_tried_again(tmp_path: Path) -> None:
    from coldfuse.core.federation import ChangeableSettings
    from coldfuse.registry.settings import read_settings, write_change

    federation = gated_federation(tmp_path, gate=GateRules(require="better"), quorum=2)
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.0001, "ben": 0.0001})
    lead_gated(federation)
    lead_gated(federation, 2)
    before, etag = read_settings(federation.store)
    write_change(federation.store, before, etag, ChangeableSettings(gate=GateRules()), by="op", after_release=0)
    now = federation.reopened()
    assert isinstance(lead_gated(now, 2)[-1], Abandoned)
    assert isinstance(lead_gated(now, 3)[-1], Published)


def test_several_suites_each_count_and_the_worst_names_itself(tmp_path: Path) -> None:
    federation = gated_federation(tmp_path)
    suites = examiner(SignSuite("first"), SignSuite("second", seed=1))
    lead_gated(federation, 1, suites)
    contribute_all(federation, {"ada": 0.3, "ben": 0.2, "cy": 0.25, "eve": -3.0})
    events = lead_gated(federation, 1, suites)
    found = next(event for event in events if isinstance(event, Evaluated))
    assert [one.suite for one in found.counts] == ["first", "second"]
    assert set(found.decision.suites) == {"first", "second"}


def test_without_a_gate_no_suite_is_asked_and_the_journal_is_as_before(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, make_model(), quorum=2, screening=ScreeningRules.off())
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.3, "eve": -3.0})
    events = lead_gated(federation, 1, _Untouchable())  # type: ignore[arg-type]
    assert kinds(events)[-2:] == ["Fused", "Published"]
    opened = federation.store.get("rounds/00001/journal/00000000-opened")
    assert b"gate" not in opened


class _Untouchable:
    def prepare(self, *_: object) -> None:
        pytest.fail("asked for nothing")

    def count(self, *_: object) -> None:
        pytest.fail("asked for nothing")


def test_a_candidate_that_cannot_be_scored_gets_nothing_right(tmp_path: Path) -> None:
    federation = gated_federation(tmp_path, quorum=2)
    lead_gated(federation)
    sent = contribute_all(federation, {"ada": 0.3, "eve": 0.2})
    events = lead_gated(federation, 1, _breaking())
    assert isinstance(events[-1], Abandoned)
    failed = next(event for event in events if isinstance(event, Evaluated))
    assert failed.counts[0].only_after == 0 < failed.counts[0].only_before
    assert sent


def _breaking() -> object:
    from gated import score as right

    from coldfuse.errors import UserInputError

    seen: list[int] = []

    def score(model_dir: Path, suites: list[SignSuite]) -> list[object]:
        seen.append(1)
        if len(seen) > 1:
            raise UserInputError("the model gives features that are not finite")
        return list(right(model_dir, suites))

    made = examiner()
    made.score = score  # type: ignore[assignment]
    return made


def test_fused_event_after_a_refusal_replaces_the_candidate(tmp_path: Path) -> None:
    federation = gated_federation(tmp_path)
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.3, "ben": 0.2, "cy": 0.25, "eve": -3.0})
    fused = [event for event in lead_gated(federation) if isinstance(event, Fused)]
    state = federation.journal(1).state()
    assert len(fused) == 2
    assert state.fused == fused[1]
