"""How much is kept, as a setting: stored, signed with the others, shown, and what gc does where no option is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_rounds import make_model, write_model
from typer.testing import CliRunner, Result

from coldfuse.cli.main import app
from coldfuse.core.retention import RetentionRules
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", make_model())


def run(base: Path, command: str, *arguments: str) -> Result:
    first = ["--base", str(base)] if command == "init" else []
    return CliRunner().invoke(app, [command, str(base.parent / "store"), *first, *arguments])


def rules_of(base: Path, *arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(base, "gc", "--dry-run", "--json", *arguments).stdout)["rules"]
    return found


def test_gc_keeps_what_the_settings_say_and_an_option_says_otherwise(base: Path) -> None:
    made = run(base, "init", "--keep-releases", "2")
    assert "coldfuse gc keeps: files of 2 releases, contributions of all" in made.stdout
    changed = run(base, "set", "--keep-deltas", "0")
    assert "retention files of 2 releases, contributions of all → files of 2 releases, contributions of 0" in (
        changed.stdout
    )
    assert "already" in run(base, "set", "--keep-deltas", "0").stdout
    settings = open_federation(LocalStore(base.parent / "store")).settings
    assert settings.retention == RetentionRules(keep_releases=2, keep_deltas=0)
    assert settings.terms == settings.model_copy(update={"retention": None}).terms  # no round asks
    assert rules_of(base) == {"keep_releases": 2, "keep_deltas": 0}
    assert rules_of(base, "--keep-releases", "all") == {"keep_releases": None, "keep_deltas": 0}
    assert rules_of(base, "--keep-releases", "7", "--keep-deltas", "9") == {"keep_releases": 7, "keep_deltas": 9}
    run(base, "set", "--keep-releases", "all", "--keep-deltas", "all")
    assert rules_of(base) == {"keep_releases": None, "keep_deltas": None}


def test_a_dry_run_says_which_rule_keeps_what_and_whose_it_is(base: Path) -> None:
    run(base, "init", "--keep-releases", "2")
    said = run(base, "gc", "--dry-run").stdout
    assert "kept: files of releases 0: --keep-releases 2" in said
    assert "rules: files of 2 releases, contributions of all, as the federation's settings say" in said
    assert "as the options say" in run(base, "gc", "--dry-run", "--keep-releases", "1", "--keep-deltas", "1").stdout


def test_where_nothing_was_ever_set_nothing_is_written_of_it(base: Path) -> None:
    assert run(base, "init", "--keep-releases", "all").exit_code == 0
    store = LocalStore(base.parent / "store")
    assert b"retention" not in store.get("federation.json")
    assert "nothing to change" in run(base, "set", "--keep-releases", "all").stdout


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "٣", "9" * 30, ""])
def test_what_is_no_number_of_releases_is_refused_in_a_line(base: Path, text: str) -> None:
    refused = run(base, "init", f"--keep-releases={text}")
    assert isinstance(refused.exception, UserInputError)
    assert "--keep-releases" in str(refused.exception)
    assert "all" in str(refused.exception)


@pytest.mark.parametrize("words", [["--keep-deltas", "3"], ["--weighting", "validation"]])
def test_a_federation_that_is_adopted_is_taken_as_it_is(tmp_path: Path, words: list[str]) -> None:
    refused = CliRunner().invoke(app, ["init", str(tmp_path / "store"), "--adopt", *words])
    assert refused.exit_code == 2
    assert "are for coldfuse set" in " ".join(refused.output.replace("│", " ").split())
