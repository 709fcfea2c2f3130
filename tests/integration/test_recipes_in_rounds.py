"""Recipes in a federation: a round makes what fusing its deltas makes, and a method that refuses them stops nobody."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from folder_fusions import fuse
from tiny_rounds import (
    contribute,
    lead,
    make_changes,
    make_contribution,
    make_federation,
    make_model,
    read_release,
    receive,
)
from typer.testing import CliRunner

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.cli.main import app
from coldfuse.consumer import fetch
from coldfuse.core.contribution import ContributionManifest, Score
from coldfuse.core.round import Abandoned, Opened
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.engine.recipes import read_recipe, write_recipe
from coldfuse.gateway import StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.storage import LocalStore
from coldfuse.tensors.checkpoint import open_checkpoint

MODEL = make_model()
NAMES = ("ada", "ben", "cy", "dot", "eve")
CHANGES = {name: make_changes(MODEL, seed) for seed, name in enumerate(NAMES)}
SCORES = {name: 0.5 + seed / 10 for seed, name in enumerate(NAMES)}


def send(federation: Federation, names: Sequence[str] = NAMES) -> dict[str, ContributionManifest]:
    """Contribute in this order."""
    sent = {}
    for at_s, name in enumerate(names):
        score = Score(before=0.1, after=SCORES[name])
        sent[name] = make_contribution(federation, name, CHANGES[name], score=score)
        receive(federation, sent[name], at_s=float(at_s))
    return sent


def test_contributions_count_by_the_scores_that_they_report(tmp_path: Path) -> None:
    line = "weighted-mean(by=score)"
    federation = make_federation(tmp_path, MODEL, method=line, quorum=5)
    lead(federation)
    deltas = []
    for name, manifest in send(federation).items():
        deltas.append(tmp_path / f"{name}.safetensors")
        deltas[-1].write_bytes(federation.objects.open(manifest.delta).read(0, manifest.delta.size_bytes))
    lead(federation)
    digest = fuse(tmp_path / "base", deltas, tmp_path / "out", line, weights=list(SCORES.values()))
    assert digest == federation.latest().model_digest != federation.release(0).model_digest


def test_a_release_holds_the_recipe_with_every_parameter(tmp_path: Path) -> None:
    line = "clip then ties(density=0.3) then nesterov(lr=0.5)"
    federation = make_federation(tmp_path, MODEL, method=line)
    lead(federation)
    send(federation)
    lead(federation)
    method = federation.latest().method
    assert read_recipe(method) == read_recipe(line)
    assert method == write_recipe(read_recipe(line))
    assert "density=0.3" in method
    assert "momentum=0.9" in method
    assert federation.settings.method == line


def test_status_and_releases_say_how_they_were_made(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="weighted-mean(by=score) then nesterov")
    lead(federation)
    send(federation)
    lead(federation)
    assert f"method {federation.settings.method}" in say("status", tmp_path / "store")
    newest = json.loads(say("releases", tmp_path / "store", "--json"))[0]
    assert newest["model_digest"] == federation.latest().model_digest
    assert {c.contributor: c.weight for c in federation.latest().contributions} == SCORES
    history = say("releases", tmp_path / "store").splitlines()
    assert "weighted-mean(by=score, absent=zero) then nesterov(lr=0.7, momentum=0.9): " in history[0]
    assert all(name in history[0] for name in NAMES)


def say(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def reopened(federation: Federation, folder: Path) -> Federation:
    """Copy a federation: the same name, so the same random masks, and another life."""
    shutil.copytree(federation.store.url, folder)
    return open_federation(LocalStore(folder))


def test_random_masks_know_nothing_of_arrival_workers_or_restarts(tmp_path: Path, small_parts: int) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=2, method="della then mean then nesterov", quorum=5)
    lead(federation)
    releases = []
    for threads, order in ((1, NAMES), (3, NAMES[::-1]), (2, ("cy", "eve", "ada", "dot", "ben"))):
        copy = reopened(federation, tmp_path / str(threads))
        send(copy, order)
        lead(copy, executor=ThreadExecutor(threads))
        releases.append(copy.latest())
    assert len({release.model_digest for release in releases}) == 1
    assert all((r.files, r.outer) == (releases[0].files, releases[0].outer) for r in releases)
    assert releases[0].model_digest != federation.latest().model_digest


def test_every_round_draws_masks_of_its_own(tmp_path: Path) -> None:
    name = "embeddings.weight"
    same = {name: np.full((50, 8), 0.01, np.float32)}
    federation = make_federation(tmp_path, MODEL, method="dare(drop=0.5)", quorum=1)
    kept = []
    for number in (1, 2):
        before = read_release(federation)[name].floats
        lead(federation, number)
        contribute(federation, "ada", same)
        lead(federation, number)
        kept.append(read_release(federation)[name].floats != before)
    assert 0.4 < np.mean(kept[0]) < 0.6
    assert 0.4 < np.mean(kept[0] == kept[1]) < 0.6


def test_a_method_that_refuses_a_round_abandons_it_and_says_why(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="krum(byzantine=1)", quorum=4)
    lead(federation)
    send(federation, NAMES[:4])
    events = lead(federation)
    assert [event.event for event in events] == ["admitted", "closed", "abandoned"]
    assert isinstance(events[-1], Abandoned)
    assert "expected at least 5 contributions if 1 may be hostile, got 4" in events[-1].reason
    assert federation.latest().release == 0
    assert federation.current_round() == 2


def test_what_a_method_refused_waits_for_more_and_then_counts(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="krum(byzantine=1)", quorum=3)
    lead(federation)
    send(federation, NAMES[:3])
    lead(federation)
    (opened,) = lead(federation, 2)
    assert isinstance(opened, Opened)
    assert sorted(admission.contributor for admission in opened.carried) == ["ada", "ben", "cy"]
    assert lead(federation, 2, now_s=1e6) == []  # with the same contributions it would be refused again
    send(federation, ["dot"])
    assert [event.event for event in lead(federation, 2)] == ["admitted", "closed", "abandoned"]
    lead(federation, 3)
    send(federation, ["eve"])
    assert [event.event for event in lead(federation, 3)] == ["admitted", "closed", "fused", "published"]
    assert {c.contributor for c in federation.latest().contributions} == set(NAMES)


def test_the_status_says_why_the_round_before_was_abandoned(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="krum(byzantine=1)", quorum=4)
    lead(federation)
    send(federation, NAMES[:4])
    lead(federation)
    lead(federation, 2)
    status = say("status", tmp_path / "store")
    assert "round 2" in status
    assert "waiting: the method refused the 4 contributions from before" in status
    assert "expected at least 5 contributions" in status


def test_copies_that_foolsgold_distrusts_end_when_somebody_honest_comes(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="foolsgold", quorum=3, screening=ScreeningRules.off())
    lead(federation)
    for name in NAMES[:3]:
        contribute(federation, name, CHANGES["ada"])
    assert lead(federation)[-1].event == "abandoned"
    lead(federation, 2)
    send(federation, ["eve"])
    assert lead(federation, 2)[-1].event == "published"


def test_an_aggregator_goes_on_after_a_refusal(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="krum(byzantine=1)", quorum=4)
    settings = AggregatorSettings(rounds=1, poll_s=0.005, lease_ttl_s=5.0)
    seen = []
    for number, event in serve_rounds(federation, ThreadExecutor(1), settings, stop=threading.Event()):
        seen.append((number, event.event))
        if event.event == "opened":
            send(federation, NAMES[:4] if number == 1 else NAMES[4:])
    one = [(1, event) for event in ("opened", "admitted", "closed", "abandoned")]
    assert seen == one + [(2, event) for event in ("opened", "admitted", "closed", "fused", "published")]


def test_a_refusal_survives_a_restart_at_any_point(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="krum(byzantine=1) then nesterov", quorum=4)
    lead(federation)
    send(federation, NAMES[:4])
    lead(federation)
    again = open_federation(LocalStore(federation.store.url))
    assert lead(again) == []
    assert [event.event for event in lead(again, 2)] == ["opened"]
    assert [event.event for event in lead(open_federation(LocalStore(federation.store.url)), 2)] == []
    assert again.latest().outer is None


def test_a_contributor_cannot_stop_a_round_by_its_score(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="weighted-mean(by=score)", quorum=2)
    lead(federation)
    for name, after in (("ada", 0.5), ("ben", 0.7), ("eve", 1.7e308), ("mal", 1.7e308)):
        contribute(federation, name, make_changes(MODEL, ord(name[0])), score=Score(before=0.0, after=after))
    lead(federation)
    assert {c.contributor for c in federation.latest().contributions} == {"ada", "ben"}
    rejected = {r.contributor: r.reason for r in federation.journal(1).state().rejected.values()}
    assert set(rejected) == {"eve", "mal"}
    assert all("expected 0 to 1" in reason for reason in rejected.values())


def test_the_release_is_a_model_folder_whatever_the_recipe(tmp_path: Path, small_parts: int) -> None:
    federation = make_federation(tmp_path, MODEL, num_files=3, method="ties then fedadam")
    lead(federation)
    send(federation)
    lead(federation)
    fetch(StoreGateway(federation), tmp_path / "fetched", which="latest")
    assert open_checkpoint(tmp_path / "fetched").digest() == federation.latest().model_digest
    assert not (tmp_path / "fetched" / "outer").exists()
