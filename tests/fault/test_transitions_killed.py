"""Whoever leads, goes back or retracts is killed right before and right after every kind of entry that there is.

What samples of operations may pass over is hit here: of each kind of entry, channel and document the first write.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Process
from dying_store import KilledError, Strike, StruckStore, strikes_of
from evaluating import EvaluatedFederation
from faulty_store import installed
from gated import SignSuite, closed_on_harm, lead_gated
from retracted_rounds import played, take_out, verified
from tiny_rounds import contribute, lead, make_changes, make_model, make_round

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import Round, advance
from coldfuse.doctor.examine import Examination
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.moving import follow_back, promote, roll_back
from coldfuse.registry.published import next_number
from coldfuse.storage import LocalStore, ObjectStore
from coldfuse.storage.base import list_keys

OF_ROUNDS = ("rounds/", "releases/", "channels/", "rollbacks/", "tombstones/")


def contents(store: ObjectStore) -> dict[str, bytes]:
    """Return all that a federation says of its history."""
    return {key: store.get(key) for key in list_keys(store, "") if key.startswith(OF_ROUNDS)}


def every_strike(
    begun: Path, folder: Path, play: Callable[[ObjectStore], object]
) -> Iterator[tuple[Strike, LocalStore]]:
    """Play once in peace, then once for every moment to be killed at; yield each store after the kill."""
    calm = StruckStore(str(shutil.copytree(begun, folder / "calm")))
    with installed(calm):
        play(calm)
    for number, strike in enumerate(strikes_of(calm.written)):
        place = str(shutil.copytree(begun, folder / str(number)))
        with installed(StruckStore(place, strike)) as struck, pytest.raises(KilledError):
            play(struck)
        assert struck.is_struck
        yield strike, LocalStore(place)
        shutil.rmtree(place)


def kinds(strikes: list[Strike]) -> set[str]:
    """Return what was struck: events, channels and folders."""
    keys = {strike.key for strike in strikes if not strike.key.endswith("/head")}
    return {key.rpartition("-")[2] if "/journal/" in key else key.partition("/")[0] for key in keys}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return closed_on_harm(tmp_path_factory.mktemp("closed"))


def test_around_every_entry_of_a_gate(closed: Path, tmp_path: Path) -> None:
    def play(store: ObjectStore) -> None:
        lead_gated(open_federation(store))

    struck = []
    for strike, store in every_strike(closed, tmp_path, play):
        play(store)
        assert contents(store) == contents(LocalStore(tmp_path / "calm")), strike
        struck.append(strike)
    assert kinds(struck) == {"fused", "evaluated", "tried", "rejected", "published", "releases", "channels"}


def test_a_process_that_is_killed_at_the_gate_is_followed_by_one_that_comes_to_the_same(
    closed: Path, tmp_path: Path
) -> None:
    calm, place = (shutil.copytree(closed, tmp_path / name) for name in ("calm", "killed"))
    lead_gated(open_federation(LocalStore(calm)))
    program = (sys.executable, Path(__file__).with_name("gate_process.py"), place)
    with Process(*program, "tried") as killed:
        assert killed.wait() == -signal.SIGKILL
    with Process(*program) as after:
        after.succeed()
    assert "1 published" in after.lines
    done, expected = (open_federation(LocalStore(each)) for each in (place, calm))
    assert done.latest().model_digest == expected.latest().model_digest
    assert sorted(done.journal(1).state().rejected) == sorted(expected.journal(1).state().rejected)


def test_around_every_entry_while_evaluators_are_asked(tmp_path: Path) -> None:
    made = EvaluatedFederation(tmp_path / "made", quorum=2)
    made.lead()
    made.send_all(ada=0.3, ben=-3.0)
    made.send("cy", 0.25, seed=7)
    made.lead(most=1)  # screened, and closed
    place, begun = made.path / "store", tmp_path / "begun"
    shutil.copytree(place, begun)
    with installed(StruckStore(str(place))) as calm:
        expected, struck = to_the_end(made, calm), list(strikes_of(calm.written))
    for strike in struck:
        for folder in (place, made.path / "eva-evaluator", made.path / "ivo-evaluator"):
            shutil.rmtree(folder)
        shutil.copytree(begun, place)
        with installed(StruckStore(str(place), strike)) as store, pytest.raises(KilledError):
            to_the_end(made, store)
        assert store.is_struck
        assert to_the_end(made, LocalStore(place)) == expected, strike
    assert kinds(struck) >= {"asked", "tried", "evaluated", "rejected", "fused", "published", "channels"}
    assert "channels/candidate" in {strike.key for strike in struck}


def to_the_end(made: EvaluatedFederation, store: ObjectStore) -> tuple[object, ...]:
    """Lead the round on this store, with evaluators who answer whatever they are asked; return what came of it."""
    made.restart(store)
    evaluators = [made.evaluator(name, SignSuite("signs", seed=seed)) for seed, name in enumerate(made.evaluators)]
    for _ in range(12):
        made.lead()
        state = made.federation.journal(1).state()
        if state.is_over:
            heard = {subset: one.counts for subset, one in state.gating.heard.items()}
            decided = [(one.decision, one.counts) for one in state.gating.evaluations]
            return decided, heard, sorted(state.rejected), made.federation.latest().model_digest
        for evaluator in evaluators:
            evaluator.look()
    raise AssertionError("the round does not end")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two releases, of which `stable` is the second, and a third round with a contribution."""
    names = ("ada", "ben")
    federation = played(
        tmp_path_factory.mktemp("running"), [names, names], opens=True, quorum=2, method="mean then nesterov"
    )
    promote(federation, 2, signer=None)
    contribute(federation, "ada", make_changes(make_model(), 50))
    lead(federation, 3)
    return Path(federation.store.url)


def lead_on(federation: Federation, number: int) -> None:
    """Lead as who knows of steps back."""
    pointer = federation.channel("latest")
    made = make_round(federation, number)
    base = open_base(
        federation, federation.release_at(pointer),
        number=next_number(federation.store, federation.settings, federation.trust, pointer=pointer),
    )  # fmt: skip
    round_ = Round(
        federation=federation, journal=made.journal, base=base, executor=made.executor, now_s=made.now_s,
        clock=made.clock, rollback=pointer.rollback,
    )  # fmt: skip
    while advance(round_):
        pass


def test_around_every_write_of_a_step_back_and_of_what_comes_after_it(running: Path, tmp_path: Path) -> None:
    def play(store: ObjectStore) -> None:
        federation = open_federation(store)
        if federation.channel("latest").rollback is None:
            roll_back(federation, 1, reason="worse", by="ada", signer=None)
        follow_back(federation, signer=None)
        lead_on(federation, 3)
        lead_on(federation, 4)
        state = federation.journal(4).state()
        for seed, name in enumerate(("ada", "ben")):
            if not state.is_over and name not in {one.contributor for one in state.admitted.values()}:
                contribute(federation, name, make_changes(make_model(), 60 + seed))
        lead_on(federation, 4)
        promote(federation, None, signer=None)

    struck = []
    for strike, store in every_strike(running, tmp_path, play):
        play(store)
        federation, calm = open_federation(store), open_federation(LocalStore(tmp_path / "calm"))
        latest = federation.latest()
        assert (latest.release, latest.parent) == (3, 1), strike
        assert federation.channel("stable").release == 3, strike
        assert latest.model_digest == calm.latest().model_digest, strike
        assert Examination(federation).run().is_sound, strike
        struck.append(strike)
    assert {"channels/latest", "channels/stable"} < {strike.key for strike in struck}
    assert kinds(struck) == {"rejected", "abandoned", "opened", "received", "admitted", "closed", "fused", "published",
                             "channels", "releases", "rollbacks"}  # fmt: skip


def test_around_every_write_of_a_retraction(running: Path, tmp_path: Path) -> None:
    def play(store: ObjectStore) -> None:
        take_out(open_federation(store), "ben", erases=True)

    struck = []
    for strike, store in every_strike(running, tmp_path, play):
        federation = open_federation(store)
        for _ in range(2):  # an aggregator goes on before it is run again
            lead(federation, federation.current_round())
        play(store)
        calm = open_federation(LocalStore(tmp_path / "calm"))
        assert federation.latest().model_digest == calm.latest().model_digest, strike
        assert federation.latest().release == 3, strike
        assert Examination(federation).run().is_sound, strike
        struck.append(strike)
    assert verified(calm).recomputed[0].agrees
    assert kinds(struck) >= {"opened", "closed", "fused", "published", "rejected", "abandoned", "releases", "channels",
                             "tombstones"}  # fmt: skip
