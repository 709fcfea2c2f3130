"""Shutting contributors out, and what the status says of it and of screening."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.errors import ColdfuseError
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.quarantine import QUARANTINE_KEY, list_quarantine_changes, read_quarantine

MODEL = make_model()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    made = make_federation(tmp_path, MODEL, method="multi-krum(byzantine=1)", quorum=5)
    lead(made)
    return made


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*words: object) -> str:
    error = CliRunner().invoke(app, [*map(str, words)]).exception
    assert isinstance(error, ColdfuseError), error
    return str(error)


def test_a_name_is_shut_out_and_let_in_and_all_of_it_is_kept(federation: Federation) -> None:
    store = federation.store.url
    said = run("quarantine", store, "mallory", "--reason", "sends noise", "--by", "ann")
    assert said == "quarantined mallory: sends noise; what it sends is rejected from now on\n"
    assert "nothing to change" in run("quarantine", store, "mallory", "--reason", "sends noise", "--by", "bob")
    assert run("readmit", store, "mallory", "--by", "bob").startswith("readmitted mallory; what it sends is taken")
    run("quarantine", store, "eve", "--by", "ann")
    listed = run("quarantine", store).splitlines()
    assert listed[0] == "quarantined: eve"
    assert [line.split("  ")[-1] for line in listed[1:]] == [
        "quarantined eve: no reason given, by ann",
        "readmitted mallory, by bob",
        "quarantined mallory: sends noise, by ann",
    ]
    assert [change.number for change in list_quarantine_changes(federation.store)] == [3, 2, 1]
    document = json.loads(run("quarantine", store, "--json"))
    assert (list(document["quarantined"]), len(document["changes"])) == (["eve"], 3)


def test_a_bit_that_flips_lets_nobody_in_and_a_lost_change_is_named(federation: Federation) -> None:
    store = Path(federation.store.url)
    for name in ("mallory", "eve"):
        run("quarantine", store, name)
    document = store / QUARANTINE_KEY
    whole = document.read_bytes()
    document.write_bytes(whole.replace(b"mallory", b"mallorx"))
    assert "restore quarantine.json from a copy" in refused("quarantine", store)
    document.write_bytes(whole)
    (store / "quarantine" / "00001.json").unlink()
    assert "restore quarantine/00001.json" in refused("quarantine", store)


def test_who_is_not_out_cannot_be_let_in(federation: Federation) -> None:
    assert "ada is not quarantined" in refused("readmit", federation.store.url, "ada")


def test_a_reason_is_bounded_and_does_not_act_on_a_terminal(federation: Federation) -> None:
    assert "reason" in refused("quarantine", federation.store.url, "eve", "--reason", "x" * 201)
    assert read_quarantine(federation.store).change is None
    assert "\x1b" not in run("quarantine", federation.store.url, "eve", "--reason", "\x1b[2Jgone")


def test_a_quarantine_that_cannot_be_read_lets_nobody_in(federation: Federation) -> None:
    federation.store.put_if_absent(QUARANTINE_KEY, b"{")
    contribute(federation, "ada", make_changes(MODEL, 0))
    with pytest.raises(ColdfuseError, match=r"quarantine.json: .*; restore quarantine.json from a copy"):
        lead(federation)


def test_the_status_says_who_is_out_what_is_screened_and_what_the_round_can_stand(federation: Federation) -> None:
    store = federation.store.url
    run("quarantine", store, "mallory", "--reason", "sends noise")
    contribute(federation, "ada", make_changes(MODEL, 0))
    lead(federation)
    lines = run("status", store).splitlines()
    assert "screening: strict" in lines
    assert "quarantined: mallory: sends noise" in lines
    assert "stands: 0 bad contributors of the 1 admitted, 1 of a quorum of 5, by its method" in lines
    document = json.loads(run("status", store, "--json"))
    assert document["stands"] == {"admitted": 0, "quorum": 1}
    assert document["screening"]["is_on"] is True
    assert document["quarantined"] == {"mallory": "sends noise"}


def test_screening_is_changed_like_other_rules(federation: Federation) -> None:
    store = federation.store.url
    assert "screening strict → off" in run("set", store, "--screening", "off")
    assert not open_federation(federation.store).settings.screening.is_on
    assert "nothing to change" in run("set", store, "--screening", "off")
    lead(federation)  # round 1, in which nothing new was admitted, makes way
    lead(federation, 2)
    assert "screening: off" in run("status", store)


def test_a_quorum_below_what_the_method_needs_is_refused(federation: Federation) -> None:
    said = refused("set", federation.store.url, "--quorum", 4)
    assert "expected at least 5 contributions if 1 may be hostile, got 4" in said
