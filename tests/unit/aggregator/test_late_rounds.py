"""What becomes of contributions that were trained on an older release, under each policy."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import (
    Model,
    contribute,
    floats,
    lead,
    make_changes,
    make_contribution,
    make_federation,
    make_model,
    naive_mean,
    read_release,
    receive,
)

from coldfuse.api.values import describe_release
from coldfuse.core.contribution import ContributionManifest
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import RoundClosedError
from coldfuse.gateway import Decision, StoreGateway
from coldfuse.registry.federation import Federation
from coldfuse.registry.journal import Journal

MODEL = make_model()
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(("ada", "ben", "cy", "dee"))}


def federation_of(folder: Path, *, releases: int = 1, **rules: object) -> Federation:
    """Make a federation, with a number of releases, and the next round open."""
    federation = make_federation(folder, MODEL, **rules)
    for number in range(1, releases + 1):
        lead(federation, number)
        for name in ("ada", "ben"):
            contribute(federation, name, CHANGES[name])
        lead(federation, number, now_s=9.0)  # after any grace
    lead(federation, releases + 1)
    assert federation.latest().release == releases
    return federation


def made_on(federation: Federation, release: int, name: str, **different: object) -> ContributionManifest:
    """Store a delta on some release, for the open round."""
    base = {"base_release": release, "base_digest": federation.release(release).model_digest}
    return make_contribution(federation, name, CHANGES[name], **(base | different))


def scaled(name: str, weight: float) -> dict[str, np.ndarray]:
    return {tensor: change * weight for tensor, change in CHANGES[name].items()}


def naive(base: Model, *deltas: dict[str, np.ndarray]) -> Model:
    """Return the base plus the sum of deltas in float64, divided by their number."""
    return naive_mean(base, [{k: v.astype(np.float64) for k, v in delta.items()} for delta in deltas])


def test_a_late_delta_is_applied_to_the_current_base_with_its_weight(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, releases=3, late="rebase", staleness="polynomial(a=0.5)")
    before = read_release(federation)
    receive(federation, made_on(federation, 0, "cy"))
    contribute(federation, "ada", CHANGES["ada"])
    lead(federation, 4)
    assert read_release(federation) == naive(
        before, CHANGES["ada"], {k: v.astype(np.float64) * 0.5 for k, v in CHANGES["cy"].items()}
    )
    said = {c.contributor: (c.base_release, c.staleness_weight, c.weight) for c in federation.latest().contributions}
    assert said == {"ada": (None, None, 1.0), "cy": (0, 0.5, 1.0)}
    assert federation.latest().method == federation.release(1).method
    with StoreGateway(federation) as gateway:
        assert "cy (made on 0, ×0.5)" in describe_release(next(gateway.releases()))
        told = next(r.contribution for r in federation.journal(4).state().received.values() if r.contributor == "cy")
        assert gateway.verdict(4, told).reason.endswith("; made on release 0, it counts ×0.5 on 3")


def test_a_round_of_nothing_but_late_contributions_moves_by_their_weight(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, late="rebase", staleness="hinge(a=3, b=0)")
    before = read_release(federation)
    for name in ("cy", "dee"):
        receive(federation, made_on(federation, 0, name))
    lead(federation, 2)
    quarter = [{k: v.astype(np.float64) * 0.25 for k, v in CHANGES[name].items()} for name in ("cy", "dee")]
    assert read_release(federation) == naive(before, *quarter)  # divided by their number, not by 0.5


@pytest.mark.parametrize(
    "method", ["median", "ties(density=0.5)", "clip then mean", "mean then nesterov", "iso-c", "weighted-mean"]
)
def test_a_constant_rule_makes_a_late_delta_count_as_a_fresh_one_by_any_method(tmp_path: Path, method: str) -> None:
    made = []
    for late in (True, False):
        federation = federation_of(tmp_path / str(late), method=method, late="rebase")
        receive(federation, made_on(federation, 0 if late else 1, "cy"))
        contribute(federation, "ada", CHANGES["ada"])
        lead(federation, 2)
        made.append(read_release(federation))
    assert made[0] == made[1]


def test_arrival_threads_and_files_do_not_change_a_byte(tmp_path: Path, small_parts: int) -> None:
    digests = set()
    for number, order in enumerate(permutations(("ada", "cy", "dee"))):
        rules = {"quorum": 3, "late": "rebase", "staleness": "polynomial", "num_files": 3}
        federation = make_federation(tmp_path / str(number), MODEL, **rules)
        lead(federation)
        for name in ("ada", "ben", "cy"):
            contribute(federation, name, CHANGES[name])
        lead(federation)
        lead(federation, 2)
        for at_s, name in enumerate(order):
            receive(federation, made_on(federation, 1 if name == "ada" else 0, name), at_s=float(at_s))
        lead(federation, 2, executor=ThreadExecutor(1 + number % 3))
        digests.add(federation.latest().model_digest)
    assert federation.latest().release == 2
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"late": "drop"}, r"is on release 2 \([0-9a-f]{12}\); fetch that release and train on it"),
        ({"late": "next"}, "and what was trained on the release before counts; fetch"),
        ({"late": "rebase", "max_staleness": 1}, "trained on one of the 1 releases before counts; fetch"),
    ],
)
def test_what_is_too_old_is_refused_by_gateway_and_aggregator_with_the_policy(
    tmp_path: Path, rules: dict[str, object], told: str
) -> None:
    federation = federation_of(tmp_path, releases=2, **rules)
    manifest = made_on(federation, 0, "cy")
    with StoreGateway(federation) as gateway, pytest.raises(RoundClosedError, match=told):
        gateway.commit(manifest)
    receive(federation, manifest)  # past the gateway
    lead(federation, 3)
    rejection = next(iter(federation.journal(3).state().rejected.values()))
    assert rejection.contributor == "cy"
    assert not rejection.is_late


@pytest.mark.parametrize("policy", ["next", "rebase"])
def test_what_is_late_is_taken_by_a_gateway_and_admitted(tmp_path: Path, policy: str) -> None:
    federation = federation_of(tmp_path, releases=2, late=policy)
    with StoreGateway(federation) as gateway:
        manifest = made_on(federation, 1, "cy")
        assert gateway.commit(manifest).decision is Decision.PENDING
        lead(federation, 3)
        assert gateway.commit(manifest).decision is Decision.ADMITTED


@pytest.mark.parametrize(
    "different",
    [{"base_digest": "0" * 64}, {"base_release": 1}, {"base_release": 3}, {"base_release": 9}],
    ids=["no such digest", "another release's digest", "a release to come", "no release"],
)
def test_a_base_that_the_federation_never_had_is_refused(tmp_path: Path, different: dict[str, object]) -> None:
    federation = federation_of(tmp_path, releases=2, late="rebase")
    receive(federation, made_on(federation, 0, "cy", **different))
    lead(federation, 3)
    assert federation.journal(3).state().admitted == {}
    assert "the delta is relative to release" in next(iter(federation.journal(3).state().rejected.values())).reason


def test_a_delta_of_another_base_than_its_manifest_names_is_refused(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, releases=2, late="rebase")
    fresh = made_on(federation, 2, "cy")
    base = {"base_release": 0, "base_digest": federation.release(0).model_digest}
    receive(federation, fresh.model_copy(update=base))
    lead(federation, 3)
    assert "base" in next(iter(federation.journal(3).state().rejected.values())).reason


def test_a_late_delta_that_does_not_fit_the_base_is_refused(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, late="rebase")
    base = {"base_release": 0, "base_digest": federation.release(0).model_digest}
    schema = {"layer.weight": floats(np.zeros((3, 3))).spec}
    changes = {"layer.weight": np.ones((3, 3), np.float32)}
    receive(federation, make_contribution(federation, "cy", changes, schema=schema, **base))
    lead(federation, 2)
    assert "layer.weight" in next(iter(federation.journal(2).state().rejected.values())).reason


def test_one_contribution_a_round_counts_whatever_its_base(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, quorum=2, late="rebase")
    receive(federation, made_on(federation, 0, "cy"), at_s=1.0)
    receive(federation, made_on(federation, 1, "cy"), at_s=2.0)
    lead(federation, 2)
    state = federation.journal(2).state()
    assert [a.base_release for a in state.admitted.values()] == [0]
    assert len(state.rejected) == 1


def test_what_is_carried_keeps_its_base_and_its_weight(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, late="rebase", staleness="polynomial(a=1)")
    receive(federation, made_on(federation, 0, "cy"))
    lead(federation, 2, now_s=1.0)
    lead(federation, 2, now_s=100.0)
    assert federation.journal(2).state().abandoned is not None
    lead(federation, 3, now_s=100.0)
    contribute(federation, "ada", CHANGES["ada"])
    lead(federation, 3, now_s=101.0)
    said = {c.contributor: (c.base_release, c.staleness_weight) for c in federation.latest().contributions}
    assert said == {"ada": (None, None), "cy": (0, 0.5)}


def test_an_acknowledged_contribution_that_came_too_late_is_told_where_it_still_counts(tmp_path: Path) -> None:
    federation = federation_of(tmp_path, late="next", staleness="polynomial(a=0.5)")
    late = made_on(federation, 1, "cy")
    for name in ("ada", "ben"):
        contribute(federation, name, CHANGES[name])
    lead(federation, 2)
    receive(federation, late)
    lead(federation, 2)
    rejection = next(iter(federation.journal(2).state().rejected.values()))
    assert rejection.is_late
    assert "send it again to the open round: what was trained on the release before counts, by" in rejection.reason
    lead(federation, 3)
    receive(federation, late.model_copy(update={"round": 3}))
    lead(federation, 3)
    assert [a.base_release for a in federation.journal(3).state().admitted.values()] == [1]


class CrashError(Exception):
    """Stands for a kill."""


class CrashingJournal(Journal):
    """Dies before or after the n-th append of all."""

    countdown, before, fired = -1, False, 0

    def append(self, event) -> None:  # type: ignore[no-untyped-def]
        kind = type(self)
        kind.countdown -= 1
        if kind.countdown == 0 and kind.before:
            kind.fired += 1
            raise CrashError
        super().append(event)
        if kind.countdown == 0:
            kind.fired += 1
            raise CrashError


POLICIES = {
    "drop": {"late": "drop"},
    "next": {"late": "next", "staleness": "hinge", "close": "grace", "grace_s": 5.0},
    "rebase": {"late": "rebase", "staleness": "polynomial", "close": "active", "grace_s": 5.0},
}


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("n", range(1, 6))
@pytest.mark.parametrize("policy", POLICIES)
def test_killed_at_any_append_under_any_policy_everything_acknowledged_has_one_verdict_and_the_bytes_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, n: int, before: bool
) -> None:
    made = []
    for kills in (False, True):
        federation = federation_of(tmp_path / str(kills), **POLICIES[policy])
        bad = {"scale": np.float32(np.nan).reshape(())}
        sent = {contribute(federation, name, CHANGES[name]) for name in ("ada", "ben")}
        sent |= {contribute(federation, "x", bad), receive(federation, made_on(federation, 0, "cy"))}
        late = made_on(federation, 1, "dee")
        if kills:
            CrashingJournal.countdown, CrashingJournal.before, CrashingJournal.fired = n, before, 0
            with monkeypatch.context() as patch:
                patch.setattr("coldfuse.registry.federation.Journal", CrashingJournal)
                for now_s in (0.0, 6.0):
                    if not CrashingJournal.fired:
                        try:
                            lead(federation, 2, now_s=now_s)
                        except CrashError:
                            pass
            assert CrashingJournal.fired == 1
        for now_s in (0.0, 6.0):
            lead(federation, 2, now_s=now_s)
        sent.add(receive(federation, late))  # acknowledged at the very end: too late
        lead(federation, 2, now_s=7.0)
        state = federation.journal(2).state()
        assert sent == set(state.received)
        assert [(digest in state.admitted) + (digest in state.rejected) for digest in state.received] == [1] * len(sent)
        assert [r.contributor for r in state.rejected.values() if r.is_late] == ["dee"]
        made.append(federation.latest())
    assert made[0].model_digest == made[1].model_digest
    assert made[0].release == 2
    assert ("cy" in {c.contributor for c in made[0].contributions}) == (policy != "drop")
