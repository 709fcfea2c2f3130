"""Changing the rules of a federation from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import Federation, open_federation

MODEL = make_model()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return make_federation(tmp_path, MODEL)


def run(command: str, federation: Federation, *arguments: object) -> str:
    words = [command, federation.store.url, *map(str, arguments)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_statistics_that_are_asked_for_follow_the_method(federation: Federation) -> None:
    assert "statistics none → gram, require" in run("set", federation, "--method", "regmean")
    assert "statistics gram, require → gram, optional" in run("set", federation, "--statistics", "optional")
    assert open_federation(federation.store).settings.terms.statistics.presence == "optional"
    assert "statistics gram, optional → none" in run("set", federation, "--method", "mean")


def refused(federation: Federation, *arguments: object) -> str:
    before = open_federation(federation.store).settings
    error = CliRunner().invoke(app, ["set", federation.store.url, *map(str, arguments)]).exception
    assert isinstance(error, UserInputError), error
    assert open_federation(federation.store).settings == before
    return str(error)


def test_what_was_changed_is_said_with_the_round_from_which_it_holds(federation: Federation) -> None:
    lead(federation)
    contribute(federation, "ada", make_changes(MODEL, 1))
    lead(federation)
    said = run("set", federation, "--quorum", 4, "--deadline", "2h").splitlines()
    assert said == [
        f"changed tiny in {federation.store.url}: quorum 2 → 4, deadline 1m → 2h",
        "holds from round 2 on; round 1 is under way and keeps its rules",
    ]


def test_before_a_round_is_opened_it_holds_from_that_one(federation: Federation) -> None:
    assert "holds from round 1 on\n" in run("set", federation, "--quorum", 4)
    lead(federation)
    assert "round 1, in which nothing new was admitted, makes way" in run("set", federation, "--quorum", 5)


def test_what_is_so_already_is_said(federation: Federation) -> None:
    said = run("set", federation, "--quorum", 2, "--method", "mean")
    assert said.startswith(f"nothing to change: tiny in {federation.store.url} has name tiny, quorum 2, deadline 1m")
    assert json.loads(run("set", federation, "--quorum", 2, "--json"))["changed"] == {}


def test_scripts_get_old_and_new(federation: Federation) -> None:
    told = json.loads(run("set", federation, "--name", "other", "--deadline", "90s", "--by", "Ann B.", "--json"))
    assert told["changed"] == {"name": {"old": "tiny", "new": "other"}, "deadline_s": {"old": 60.0, "new": 90.0}}
    assert (told["number"], told["by"], told["holds_from_round"], told["notes"]) == (1, "Ann B.", 1, [])


def test_parameters_alone_change_the_method_that_there_is(federation: Federation) -> None:
    run("set", federation, "--method", "clip then ties(density=0.3, merge=sum) then nesterov(lr=0.5)")
    run("set", federation, "--param", "density=0.2", "--variant", "mergekit")
    method = open_federation(federation.store).settings.method
    assert all(word in method for word in ("density=0.2", "merge=sum", "lr=0.5", "variant=mergekit"))


def test_releases_and_status_show_who_changed_what(federation: Federation) -> None:
    run("set", federation, "--quorum", 1, "--by", "ann")
    lead(federation)
    contribute(federation, "ada", make_changes(MODEL, 1))
    lead(federation)
    run("set", federation, "--method", "median", "--by", "ben")
    lines = run("releases", federation).splitlines()
    assert lines[0].endswith("method mean → median, by ben")
    assert "quorum 2 → 1, by ann" in lines[2]
    newest, oldest = json.loads(run("releases", federation, "--json"))
    assert [change["by"] for change in newest["changes_after"]] == ["ben"]
    assert [change["by"] for change in oldest["changes_after"]] == ["ann"]
    assert "last changed: method mean → median, by ben" in run("status", federation)
    assert json.loads(run("status", federation, "--json"))["change"]["by"] == "ben"


def test_what_outer_steps_have_gathered_is_not_dropped_without_a_word(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="nesterov")
    lead(federation)
    for name in ("ada", "ben"):
        contribute(federation, name, make_changes(MODEL, ord(name[0])))
    lead(federation)
    assert "note" not in run("set", federation, "--param", "lr=0.3")
    said = run("set", federation, "--method", "fedadam")
    assert "note: what nesterov has gathered over the rounds is dropped and fedadam begins from nothing" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "regmean", "--param", "off_diagonal=1"], "one contribution could make the sum of the Gram"),
        (["--method", "magic"], "fusion method 'magic' is not known"),
        (["--method", "krum(byzantine=1)"], "--quorum 2: the method would refuse a round of the quorum"),
        (["--param", "density=0.3"], "has a parameter 'density'"),
        (["--deadline", "soon"], "expected a duration"),
        (["--deadline", ""], "expected a duration"),
        (["--name", "../no"], "as paths have"),
        (["--quorum", "3", "--method", "slerp"], "slerp joins 2 models"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(federation: Federation, arguments: list, said: str) -> None:
    told = refused(federation, *arguments)
    assert said in told
    assert "\n" not in told


def test_a_quorum_that_the_present_method_would_refuse_is_refused(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, method="slerp")
    assert "slerp joins 2 models" in refused(federation, "--quorum", 5)


def test_nothing_given_is_wrong_usage(federation: Federation) -> None:
    result = CliRunner().invoke(app, ["set", federation.store.url])
    assert result.exit_code == 2
    assert "say what to change" in result.output


def test_a_name_of_any_script_gets_an_id_beside_it(federation: Federation) -> None:
    said = run("set", federation, "--name", "Klinik Köln")
    assert "→ Klinik Köln (klinik-koln-" in said
    settings = open_federation(federation.store).settings
    assert (settings.display_name, settings.name[:12]) == ("Klinik Köln", "klinik-koln-")
    run("set", federation, "--name", "plain")
    settings = open_federation(federation.store).settings
    assert (settings.display_name, settings.name) == (None, "plain")
