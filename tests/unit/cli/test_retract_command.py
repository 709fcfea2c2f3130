"""What `coldfuse retract` says, and what it does when it only says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from retracted_rounds import played
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.registry.federation import Federation
from coldfuse.registry.quarantine import read_quarantine
from coldfuse.storage.base import list_keys


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return played(tmp_path, [("ada", "ben"), ("ada", "ben")])


def test_a_dry_run_says_all_and_writes_nothing(federation: Federation) -> None:
    store = federation.store
    before = {key: store.get(key) for key in list_keys(store, "")}
    said = run("retract", store.url, "ben", "--delete", "--dry-run")
    assert {key: store.get(key) for key in list_keys(store, "")} == before
    assert "2 contributions of ben: would be taken out" in said
    assert "release 3 would take the place of 2, on release 0; rounds that would be fused again: 1, 2" in said
    assert said.endswith("nothing was done: --dry-run\n")
    would = json.loads(run("retract", store.url, "ben", "--dry-run", "--json"))["would"]
    assert (would["replaces"], would["influence"], len(would["left_out"])) == (2, "remains", 2)


def test_it_says_which_of_three_things_it_is(federation: Federation) -> None:
    said = run("retract", federation.store.url, "ben", "--threads", 1, "--reason", "asked for it").splitlines()
    assert said[0] == "2 contributions of ben: taken out, by release 3"
    assert "fusion: out of it, exactly" in said
    assert any(line.startswith("influence: not out of it: 1 contribution") for line in said)
    assert any(line.startswith("bytes: kept in the store") for line in said)
    assert said[-1] == f"digest {federation.latest().model_digest}"
    lineage = run("lineage", federation.store.url)
    assert "on release 0, round 3, for release 2 without 2 retracted contributions" in lineage
    again = run("retract", federation.store.url, "ben", "--threads", 1, "--delete", "--ban")
    assert "2 contributions of ben: out of the latest release already" in again
    assert "bytes: erased, " in again
    assert "ben is quarantined" in again
    assert list(read_quarantine(federation.store).names) == ["ben"]
