"""Creating a federation with a recipe: what is stored and shown, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_rounds import make_model, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.cli.recipe import require_federated
from coldfuse.core.statistics import StatisticsRule
from coldfuse.engine.recipes import known_methods, read_recipe
from coldfuse.errors import UserInputError
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", make_model())


def init(base: Path, *arguments: str) -> str:
    command = ["init", str(base.parent / "store"), "--base", str(base), *arguments]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return open_federation(LocalStore(base.parent / "store")).settings.method


def refused(base: Path, *arguments: str) -> str:
    command = ["init", str(base.parent / "store"), "--base", str(base), *arguments]
    error = CliRunner().invoke(app, command).exception
    assert isinstance(error, UserInputError), error
    assert not (base.parent / "store").exists()
    return str(error)


def test_a_recipe_is_stored_and_shown(base: Path) -> None:
    line = "clip then ties(density=0.3) then nesterov"
    assert init(base, "--method", line) == line
    status = CliRunner().invoke(app, ["status", str(base.parent / "store")]).stdout
    assert f"method {line}" in status


@pytest.mark.parametrize(
    ("method", "kind"),
    [("regmean", "gram"), ("fisher", "fisher"), ("clip then precision", "variance"), ("ties", "none")],
)
def test_a_federation_asks_for_the_statistics_that_its_method_looks_at(base: Path, method: str, kind: str) -> None:
    init(base, "--method", method, "--statistics", "optional")
    settings = open_federation(LocalStore(base.parent / "store")).settings
    assert settings.statistics == StatisticsRule.model_validate({"kind": kind, "presence": "optional"})
    status = CliRunner().invoke(app, ["status", str(base.parent / "store")]).stdout
    assert (f"statistics: {kind}, optional" in status) is (kind != "none")


def test_parameters_become_part_of_the_recipe(base: Path) -> None:
    stored = init(base, "--method", "clip then ties then nesterov", "--param", "density=0.3", "--param", "lr=0.5")
    assert read_recipe(stored) == read_recipe("clip then ties(density=0.3) then nesterov(lr=0.5)")
    assert "density=0.3" in stored


@pytest.mark.parametrize("name", [None, "tokenizer.json", "vocab.txt", "spiece.model", "tokenizer_config.json"])
def test_a_base_without_a_tokenizer_is_told(base: Path, name: str | None) -> None:
    if name:
        (base / name).write_text("{}")
    command = ["init", str(base.parent / "store"), "--base", str(base)]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert ("no tokenizer in it" in result.stderr) is (name is None)
    assert "no tokenizer" not in result.stdout


@pytest.mark.parametrize("option", ["--variant", "--flavour"])
def test_a_variant_becomes_part_of_the_recipe(base: Path, option: str) -> None:
    assert "variant=mergekit" in init(base, "--method", "ties", option, "mergekit")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("magic", "fusion method 'magic' is not known; known are mean"),
        ("clip then magic", "fusion method 'magic' is not known"),
        ("ties(density=2)", "ties: density=2: "),
        ("ties(colour=red)", "ties has no parameter 'colour'; it has"),
        ("nesterov then ties", "expected transforms, then one method that combines, then outer steps"),
        ("nesterov then momentum", "two outer steps keep the same state"),
        ("ties(density", "expected a step such as"),
        ("", "expected a step such as"),
        ("regmean(off_diagonal=1)", "one contribution could make the sum of the Gram matrices singular"),
        ("analogy", "depends on the order of the models, and a federation has none"),
        ("slerp(t=0.3)", "depends on the order of the models"),
        ("ratatouille then slerp", "expected transforms, then one method that combines"),
        ("greedy-soup", "greedy-soup searches on held-out data, so it is for coldfuse fuse --data"),
        ("trim then adamerging(steps=3)", "adamerging searches on held-out data"),
        (" then ".join(["clip"] * 300), "characters, at most 1000"),
    ],
)
def test_what_a_federation_cannot_do_is_refused_before_anything_is_written(base: Path, line: str, said: str) -> None:
    told = refused(base, "--method", line)
    assert said in told
    assert "\n" not in told


@pytest.mark.parametrize(("param", "said"), [("density=2", "density=2"), ("density", "KEY=VALUE"), ("x=1", "'x'")])
def test_a_parameter_that_cannot_be_is_refused(base: Path, param: str, said: str) -> None:
    assert said in refused(base, "--method", "ties", "--param", param)


@pytest.mark.parametrize(
    ("line", "quorum", "said"),
    [
        ("krum(byzantine=1)", 4, "--quorum 4: the method would refuse a round of the quorum: expected at least 5"),
        ("clip then multi-krum(byzantine=3)", 8, "expected at least 9"),
        ("bulyan(byzantine=1) then nesterov", 6, "expected at least 7"),
        ("slerp", 2, "a round of one more than the quorum: slerp joins 2 models, got 3"),
        ("nuslerp", 3, "nuslerp joins 2 models"),
    ],
)
def test_a_quorum_that_the_method_would_refuse_is_refused(base: Path, line: str, quorum: int, said: str) -> None:
    assert said in refused(base, "--method", line, "--quorum", str(quorum))


@pytest.mark.parametrize(("line", "quorum"), [("krum(byzantine=1)", 5), ("bulyan(byzantine=1)", 7), ("foolsgold", 1)])
def test_a_quorum_that_the_method_takes_is_taken(base: Path, line: str, quorum: int) -> None:
    assert init(base, "--method", line, "--quorum", str(quorum)) == line


EXACT = {"slerp", "nuslerp", "nuslerp-rows", "analogy"}


def test_every_other_method_works_with_any_quorum() -> None:
    for name, kind in known_methods().items():
        if not kind.statistic and name not in EXACT:
            for quorum in (1, 2, 5, 1000):
                require_federated(read_recipe(name), quorum=quorum)
