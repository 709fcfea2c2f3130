"""The gate from the command line: what is stored and shown, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_rounds import make_model, write_model
from typer.testing import CliRunner, Result

from coldfuse.cli.main import app
from coldfuse.core.gate_rules import GateRules, SuiteWeight
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", make_model())


def run(base: Path, command: str, *arguments: str) -> Result:
    first = ["--base", str(base)] if command == "init" else []
    return CliRunner().invoke(app, [command, str(base.parent / "store"), *first, *arguments])


def stored(base: Path) -> GateRules | None:
    return open_federation(LocalStore(base.parent / "store")).settings.gate


def test_a_federation_has_no_gate_unless_one_is_asked_for(base: Path) -> None:
    assert run(base, "init", "--gate", "off").exit_code == 0
    assert stored(base) is None
    assert "gate" not in run(base, "status").stdout


def test_a_gate_is_stored_changed_and_shown(base: Path) -> None:
    made = run(base, "init", "--gate", "not-worse", "--gate-margin", "0.02", "--gate-weight", "sst2=2")
    assert "gate: not-worse by more than 2 points, alpha 0.05, on-one warn, max-missed 3, weight sst2=2" in (
        made.stdout
    )
    weights = (SuiteWeight(suite="sst2", weight=2.0),)
    assert stored(base) == GateRules(margin=0.02, weights=weights, on_one="warn", max_missed=3)

    change = run(base, "set", "--gate", "better", "--gate-wait", "2h", "--gate-to-stop", "1", "--json")
    assert stored(base) == GateRules(
        require="better", margin=0.02, wait_s=7200.0, to_stop=1, weights=weights, on_one="warn", max_missed=3
    )
    assert json.loads(change.stdout)["changed"]["gate"]["old"]["margin"] == 0.02
    assert "gate: better, not-worse by more than 2 points" in run(base, "status").stdout
    assert json.loads(run(base, "status", "--json").stdout)["gate"]["wait_s"] == 7200.0

    assert "→ off" in run(base, "set", "--gate", "off").stdout
    assert stored(base) == GateRules.off()
    assert "nothing to change" in run(base, "set", "--gate", "off").stdout


def test_a_gate_that_never_was_is_switched_on_by_set(base: Path) -> None:
    run(base, "init")
    result = run(base, "set", "--gate", "not-worse", "--json")
    assert json.loads(result.stdout)["changed"]["gate"]["old"] is None
    assert stored(base) == GateRules(on_one="warn", max_missed=3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gate-margin", "2"], "--gate-margin 2.0: Input should be less than or equal to 0.5"),
        (["--gate-margin", "nan"], "--gate-margin nan: Input should be a finite number"),
        (["--gate-alpha", "0"], "--gate-alpha 0.0: Input should be greater than or equal to 0.000001"),
        (["--gate-wait", "soon"], "'soon': expected a duration such as 90s, 15m or 2h"),
        (["--gate-to-stop", "0"], "--gate-to-stop 0: Input should be greater than or equal to 1"),
        (["--gate-asks", "-3"], "--gate-asks -3: Input should be greater than or equal to 1"),
        (["--gate-weight", "sst2"], "--gate-weight 'sst2': expected NAME=NUMBER, such as sst2=2"),
        (["--gate-weight", "a=1", "--gate-weight", "a=2"], "--gate-weight: a suite has two weights; give it one"),
        (["--gate-weight", "A b=1"], "--gate-weight 'A b': String should match pattern"),
    ],
)
def test_a_wrong_value_is_one_line(base: Path, words: list[str], said: str) -> None:
    error = run(base, "init", "--gate", "not-worse", *words).exception
    assert isinstance(error, UserInputError)
    assert str(error).startswith(said)
    assert "\n" not in str(error)
    assert not (base.parent / "store").exists()


@pytest.mark.parametrize("words", [["--gate-alpha", "0.1"], ["--gate", "off", "--gate-alpha", "0.1"]])
def test_numbers_of_a_gate_that_is_off_are_refused(base: Path, words: list[str]) -> None:
    result = run(base, "init", *words)
    assert result.exit_code == 2
    assert "--gate-alpha says how a gate decides that is off" in " ".join(result.output.replace("│", " ").split())


def test_a_federation_that_is_adopted_is_taken_as_it_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["init", str(tmp_path / "store"), "--adopt", "--gate", "better"])
    assert result.exit_code == 2
    assert "with coldfuse set afterwards" in " ".join(result.output.replace("│", " ").split())


def test_weights_by_score_are_stored_shown_and_switched_off(base: Path) -> None:
    made = run(base, "init", "--method", "weighted-mean", "--weighting", "leave-one-out")
    assert "weights by score: leave-one-out" in made.stdout
    assert json.loads(run(base, "status", "--json").stdout)["weighting"] == "leave-one-out"
    assert "weights by score: leave-one-out" in run(base, "status").stdout
    changed = run(base, "set", "--weighting", "none")
    assert "weighting leave-one-out → none" in changed.stdout
    assert "by score" not in run(base, "status").stdout


@pytest.mark.parametrize("how", [("init", "--weighting", "validation"), ("set", "--weighting", "validation")])
def test_weights_by_score_are_refused_for_a_method_that_looks_at_none(base: Path, how: tuple[str, ...]) -> None:
    if how[0] == "set":
        assert run(base, "init").exit_code == 0
    refused = run(base, *how)
    assert refused.exit_code != 0
    assert isinstance(refused.exception, UserInputError)
    assert "looks at no weights; take one that does, such as --method weighted-mean" in str(refused.exception)


def test_a_method_that_looks_at_no_weights_is_refused_while_they_are_by_score(base: Path) -> None:
    assert run(base, "init", "--method", "weighted-mean", "--weighting", "validation").exit_code == 0
    assert isinstance(run(base, "set", "--method", "mean").exception, UserInputError)
    assert run(base, "set", "--method", "mean", "--weighting", "none").exit_code == 0


def test_an_older_gate_goes_on_as_it_was_and_a_new_one_warns_and_waits_for_nobody_for_ever(base: Path) -> None:
    run(base, "init", "--gate", "not-worse", "--gate-on-one", "ignore", "--gate-max-missed", "never")
    assert stored(base) == GateRules(on_one="ignore")
    assert run(base, "set", "--gate-max-missed", "5", "--gate-on-one", "warn").exit_code == 0
    assert stored(base) == GateRules(on_one="warn", max_missed=5)
    assert "gate: not-worse by more than 1 point, alpha 0.05, on-one warn, max-missed 5" in run(base, "status").stdout
    for text in ("0", "many", "-1", "1e3"):
        refused = run(base, "set", f"--gate-max-missed={text}").exception
        assert isinstance(refused, UserInputError)
        assert str(refused).startswith("--gate-max-missed ")
