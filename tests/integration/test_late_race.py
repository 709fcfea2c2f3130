"""Commits that race with the end of rounds, under each policy: what was acknowledged gets one verdict."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import wait_until
from tiny_nodes import aggregating
from tiny_rounds import contribute, make_changes, make_contribution, make_federation, make_model, receive

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import RoundClosedError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.registry.lease import Lease
from coldfuse.verification.causes import Cause
from coldfuse.verification.store import Request, verify_store

MODEL = make_model()
NUM_CONTRIBUTORS, NUM_RELEASES, PATIENCE_S = 4, 3, 60.0
POLICIES: dict[str, dict[str, object]] = {
    "drop": {"late": "drop"},
    "next": {"late": "next", "close": "grace", "grace_s": 0.05},
    "rebase": {"late": "rebase", "close": "active", "staleness": "polynomial"},
}


def commit_again_and_again(federation: Federation, name: str, acknowledged: set[str], refused: list[str]) -> None:
    """Commit to whatever round is open, on a base that is soon an older one, until some rounds have ended."""
    until_s, seed = time.monotonic() + PATIENCE_S, 1000 * ord(name)
    with StoreGateway(federation) as gateway:
        while federation.channel("latest").release < NUM_RELEASES or not refused:  # it must meet the end of one
            assert time.monotonic() < until_s, gateway.status().round.waits_for
            made, seed = make_contribution(federation, name, make_changes(MODEL, seed)), seed + 1
            for _ in range(3):  # perhaps to a later round, with the same base
                time.sleep(0.01)  # its pace; nothing is waited for
                try:
                    manifest = made.model_copy(update={"round": federation.current_round()})
                    acknowledged.add(gateway.commit(manifest).contribution)
                except RoundClosedError as error:
                    refused.append(str(error))


def verdicts(federation: Federation) -> Counter[str]:
    counted: Counter[str] = Counter()
    for number in range(1, federation.current_round() + 1):
        state = federation.journal(number).state()
        counted.update(digest for digest in state.received if digest in state.admitted)
        counted.update(list(state.rejected))
    return counted


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_acknowledged_while_rounds_end_gets_one_verdict(tmp_path: Path, policy: str) -> None:
    federation = make_federation(tmp_path, MODEL, deadline_s=600.0, **POLICIES[policy])  # type: ignore[arg-type]
    stop, acknowledged, refused = threading.Event(), set[str](), list[str]()
    settings = AggregatorSettings(poll_s=0.005, lease_ttl_s=5.0)
    leader = threading.Thread(
        target=lambda: [None for _ in serve_rounds(federation, ThreadExecutor(1), settings, stop=stop)]
    )
    leader.start()
    try:
        with ThreadPoolExecutor(NUM_CONTRIBUTORS) as pool:
            names = [chr(ord("a") + index) for index in range(NUM_CONTRIBUTORS)]
            list(pool.map(lambda name: commit_again_and_again(federation, name, acknowledged, refused), names))
        until_s = time.monotonic() + PATIENCE_S
        while acknowledged - verdicts(federation).keys():
            assert time.monotonic() < until_s, "some that were acknowledged have no verdict"
            time.sleep(0.05)
    finally:
        stop.set()
        leader.join()
    assert federation.latest().release >= NUM_RELEASES
    assert {count for digest, count in verdicts(federation).items() if digest in acknowledged} == {1}
    releases = [federation.release(number) for number in range(1, federation.latest().release + 1)]
    fused = Counter(c.contribution for release in releases for c in release.contributions)
    assert set(fused.values()) == {1}
    ages = [r.parent - c.base_release for r in releases for c in r.contributions if c.base_release is not None]
    assert max(ages, default=0) <= federation.settings.rules.oldest


def test_what_a_slow_gateway_records_after_the_next_round_has_begun_gets_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation, looks = make_federation(tmp_path, MODEL), list[float]()
    check = Lease.check

    def looked(lease: Lease) -> None:
        looks.append(time.monotonic())
        check(lease)

    monkeypatch.setattr(Lease, "check", looked)
    with aggregating(federation) as events:
        wait_until(lambda: (1, "opened") in events, "the first round")
        late = make_contribution(federation, "cy", make_changes(MODEL, 7))
        for seed, name in enumerate(("ada", "ben")):
            contribute(federation, name, make_changes(MODEL, seed))
        wait_until(lambda: (2, "opened") in events, "the second round")
        before = len(looks)
        wait_until(lambda: len(looks) > before + 10, "a leader that has nothing left to do")
        digest = receive(federation, late)
        wait_until(lambda: digest in federation.journal(1).state().rejected, "a verdict")
    assert federation.journal(1).state().rejected[digest].is_late


def test_what_is_recorded_while_no_aggregator_runs_is_a_gap_until_one_does(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL)
    with aggregating(federation) as events:
        wait_until(lambda: (1, "opened") in events, "the first round")
        late = make_contribution(federation, "cy", make_changes(MODEL, 7))
        for seed, name in enumerate(("ada", "ben")):
            contribute(federation, name, make_changes(MODEL, seed))
        wait_until(lambda: (2, "opened") in events, "the second round")
    digest = receive(federation, late)
    (gap,) = gaps(federation)
    assert f"round 1: cy's contribution {digest[:12]} has no verdict; one that was recorded as the round ended" in gap
    with aggregating(federation):
        wait_until(lambda: digest in federation.journal(1).state().rejected, "a verdict")
    assert gaps(federation) == []


def gaps(federation: Federation) -> list[str]:
    report = verify_store(federation.store, Request(at_s=time.time()))
    return [str(finding) for finding in report.findings if finding.cause is Cause.GAP]
