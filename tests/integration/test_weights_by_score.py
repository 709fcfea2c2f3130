"""Rounds that weigh contributions by what the operator's suites find them worth, from journal to release and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from gated import contribute_all, examiner, gated_round, lead_gated
from tiny_rounds import make_federation, make_model

from coldfuse.aggregator.round import advance
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.gating import Tried, Weighed
from coldfuse.core.round import Closed, Published, Rejected
from coldfuse.core.scored_weights import Weighting, weigh
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.verification.causes import Cause
from coldfuse.verification.store import Request, verify_store

SHARES = {"ada": 0.4, "ben": 0.05, "cy": 0.3}


def federation_at(
    root: Path, *, weighting: Weighting | None = "validation", method: str = "weighted-mean", **more: object
) -> Federation:
    return make_federation(
        root, make_model(), quorum=3, method=method, screening=ScreeningRules.off(), weighting=weighting, **more
    )  # type: ignore[arg-type]


def led(federation: Federation, shares: dict[str, float] = SHARES, **more: object) -> list[object]:
    lead_gated(federation)
    contribute_all(federation, shares)
    return list(lead_gated(federation, **more))  # type: ignore[arg-type]


def weighed_in(events: list[object]) -> Weighed:
    (found,) = (event for event in events if isinstance(event, Weighed))
    return found


def wrong(federation: Federation) -> list[str]:
    report = verify_store(federation.store, Request(at_s=0.0, executor=ThreadExecutor(1)))
    return [str(finding) for finding in report.findings if finding.cause is not Cause.UNSIGNED]


@pytest.mark.parametrize("weighting", ["validation", "leave-one-out"])
def test_who_helps_more_weighs_more_and_anybody_can_fuse_it_again(tmp_path: Path, weighting: Weighting) -> None:
    federation = federation_at(tmp_path, weighting=weighting)
    events = led(federation)
    assert [type(event).__name__ for event in events][-3:] == ["Weighed", "Fused", "Published"]
    release = federation.latest()
    factors = {one.contributor: one.score_weight for one in release.contributions}
    assert factors["ben"] < 1 < factors["ada"]  # type: ignore[operator]
    for one in release.contributions:
        assert one.weight == one.num_examples * one.score_weight  # type: ignore[operator]
        assert 1 / 3 <= one.score_weight <= 3  # type: ignore[operator]
    state = federation.journal(1).led()
    assert state.gating.weighed is not None
    assert weigh(weighting, state.to_fuse, state.gating.scored)[0] == state.gating.weighed.factors
    assert wrong(federation) == []


def test_without_the_option_a_round_is_the_one_it_always_was(tmp_path: Path) -> None:
    federation = federation_at(tmp_path, weighting=None)
    events = led(federation)
    assert not any(isinstance(event, Weighed | Tried) for event in events)
    stored = b"".join(federation.store.get(key) for prefix in ("rounds/", "releases/", "federation")
                      for key in federation.store.list(prefix).keys)  # fmt: skip
    for word in (b"weighting", b"score_weight", b"weighed", b"for_weights", b"on_one", b"max_missed"):
        assert word not in stored


@pytest.mark.parametrize(
    ("suites", "method", "shares", "why"),
    [
        (False, "weighted-mean", SHARES, "no suite to score"),
        (True, "mean", SHARES, "looks at no weights"),
        (True, "weighted-mean", {"ada": -0.3, "ben": -0.2, "cy": -0.1}, "none makes it better"),
    ],
)
def test_what_cannot_be_weighed_is_said_and_all_count_as_ever(
    tmp_path: Path, suites: bool, method: str, shares: dict[str, float], why: str
) -> None:
    federation = federation_at(tmp_path, method=method)
    lead_gated(federation)
    contribute_all(federation, shares)
    events: list[object] = []
    while new := advance(gated_round(federation, 1, examiner() if suites else None)):
        events += new
    assert why in weighed_in(events).reason
    assert isinstance(events[-1], Published)
    assert {one.score_weight for one in federation.latest().contributions} <= {None, 1.0}
    status = StoreGateway(federation).status()
    assert why in (status.weighed or "")
    assert why in str(status)
    assert wrong(federation) == []


def test_what_the_gate_tries_and_publishes_is_weighed_too(tmp_path: Path) -> None:
    federation = federation_at(tmp_path, gate=GateRules())
    lead_gated(federation)
    sent = contribute_all(federation, {"ada": 0.4, "ben": 0.2, "cy": 0.3, "eve": -9.0})
    events = lead_gated(federation)
    rejected = [each.contribution for event in events if isinstance(event, Rejected) for each in event.rejections]
    assert rejected == [sent["eve"]]
    assert isinstance(events[-1], Published)
    assert len([event for event in events if isinstance(event, Weighed)]) == 1
    assert {one.contributor: one.score_weight is not None for one in federation.latest().contributions} == {
        "ada": True, "ben": True, "cy": True,
    }  # fmt: skip
    assert wrong(federation) == []


def test_status_and_verdict_say_what_is_scored_and_what_it_weighs(tmp_path: Path) -> None:
    federation = federation_at(tmp_path)
    lead_gated(federation)
    sent = contribute_all(federation, SHARES)
    assert isinstance(lead_gated(federation, steps=1)[-1], Closed)
    lead_gated(federation, steps=1)
    gateway = StoreGateway(federation)
    assert "scores 3 contributions (1 models so far)" in gateway.status().round.waits_for
    lead_gated(federation)
    assert "by its score on the operator's suites" in StoreGateway(federation).verdict(1, sent["ada"]).reason
    status = StoreGateway(federation).status()
    assert "weights by score: validation; in release 1: 3 contributions scored on 1 suite" in str(status)


def test_verify_finds_weights_that_do_not_follow_from_the_scores(tmp_path: Path) -> None:
    federation = federation_at(tmp_path)
    lead_gated(federation)
    contribute_all(federation, SHARES)
    while not any(isinstance(event, Tried) for event in lead_gated(federation, steps=1)):
        pass
    state = federation.journal(1).led()
    lie = Weighed(weighting="validation", factors=dict.fromkeys(state.to_fuse, 3.0), reason="because")
    journal = federation.journal(1)
    journal.state()
    journal.append(lie)
    assert isinstance(lead_gated(federation)[-1], Published)
    assert any("its weights by score are 3, 3, 3" in finding for finding in wrong(federation))
