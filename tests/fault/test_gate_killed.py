"""An aggregator that is killed before any of its writes while a gate evaluates, looks for who harms, or asks."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dying_store import DyingStore, KilledError
from evaluating import EvaluatedFederation
from faulty_store import installed
from gated import SignSuite, closed_on_harm, contribute_all, lead_gated
from tiny_rounds import make_federation, make_model

from coldfuse.core.round import Closed, RoundState
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore, ObjectStore

WRITES = {"put_if_absent", "compare_and_swap", "delete"}
OF_JOURNALS = ("rounds/", "channels/", "releases/")


class Watched(DyingStore):
    """Dies before its n-th write to what is no object, and counts these."""

    def _begin(self, operation: str, key: str) -> None:
        if operation in WRITES and key.startswith(OF_JOURNALS):
            return super()._begin(operation, key)
        with self._lock:
            if self.is_dead:
                raise KilledError(f"{operation} {key}")
        return None


def story(state: RoundState) -> tuple[object, ...]:
    """What a round has found out and done, but for times."""
    gating = state.gating
    return (
        [(one.decision, one.counts) for one in gating.evaluations], dict(gating.tried),
        {subset: one.counts for subset, one in gating.heard.items()},
        sorted(r.contribution for r in state.rejected.values()), state.fused and state.fused.model_digest,
        state.published is not None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return closed_on_harm(tmp_path_factory.mktemp("closed"))


def play(store: ObjectStore) -> Federation:
    federation = open_federation(store)
    lead_gated(federation)
    return federation


def test_whoever_leads_next_tries_and_drops_the_same_and_makes_the_same_release(closed: Path, tmp_path: Path) -> None:
    with installed(Watched(str(shutil.copytree(closed, tmp_path / "calm")))) as calm:
        federation = play(calm)
        expected, release = story(federation.journal(1).state()), federation.latest()
    assert calm.num_done > 20  # type: ignore[attr-defined]
    for number in range(1, calm.num_done + 1, 3):  # type: ignore[attr-defined]  # a third of them
        folder = str(shutil.copytree(closed, tmp_path / str(number)))
        with installed(Watched(folder, dies_at=number)) as dying, pytest.raises(KilledError):
            play(dying)
        federation = play(LocalStore(folder))
        assert story(federation.journal(1).state()) == expected, number
        assert federation.latest().model_digest == release.model_digest, number


def test_whoever_leads_next_weighs_the_same_by_scores_and_makes_the_same_release(tmp_path: Path) -> None:
    made = make_federation(
        tmp_path / "made", make_model(), quorum=3, method="weighted-mean", screening=ScreeningRules.off(),
        weighting="leave-one-out",
    )  # fmt: skip
    lead_gated(made)
    contribute_all(made, {"ada": 0.4, "ben": 0.05, "cy": 0.3})
    assert isinstance(lead_gated(made, steps=1)[-1], Closed)
    place = tmp_path / "made" / "store"
    with installed(Watched(str(shutil.copytree(place, tmp_path / "calm")))) as calm:
        federation = play(calm)
    weighed, release = federation.journal(1).state().gating.weighed, federation.latest()
    assert weighed is not None
    assert len(set(weighed.factors.values())) == 3
    for number in range(1, calm.num_done + 1, 4):  # type: ignore[attr-defined]
        folder = str(shutil.copytree(place, tmp_path / str(number)))
        with installed(Watched(folder, dies_at=number)) as dying, pytest.raises(KilledError):
            play(dying)
        federation = play(LocalStore(folder))
        assert federation.journal(1).state().gating.weighed == weighed, number
        assert federation.latest().model_digest == release.model_digest, number


def test_whoever_leads_next_waits_for_the_same_evaluators_and_hears_them(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path / "made", quorum=2)
    made.lead()
    made.send_all(ada=0.3, ben=-3.0)
    made.send("cy", 0.25, seed=7)
    made.lead(most=1)  # screened, and closed
    place, calm = made.path / "store", Watched(str(made.path / "store"))
    shutil.copytree(place, tmp_path / "copy")
    with installed(calm):
        expected = to_the_end(made, calm)
    assert calm.num_done > 20
    for number in range(1, calm.num_done + 1, 5):
        shutil.rmtree(place)
        shutil.rmtree(made.path / "eva-evaluator")
        shutil.rmtree(made.path / "ivo-evaluator")
        shutil.copytree(tmp_path / "copy", place)
        with installed(Watched(str(place), dies_at=number)) as dying, pytest.raises(KilledError):
            to_the_end(made, dying)
        assert to_the_end(made, LocalStore(place)) == expected, number


def to_the_end(made: EvaluatedFederation, store: ObjectStore) -> tuple[object, ...]:
    """Lead the round on this store, with evaluators who answer whatever they are asked, until it is over."""
    made.restart(store)
    evaluators = [made.evaluator(name, SignSuite("signs", seed=seed)) for seed, name in enumerate(made.evaluators)]
    for _ in range(12):
        made.lead()
        state = made.federation.journal(1).state()
        if state.is_over:
            return story(state)
        for evaluator in evaluators:
            evaluator.look()
    raise AssertionError("the round does not end")
