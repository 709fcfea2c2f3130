"""The README, as printed: its commands and their options exist, its Python runs, and what it lists is all there is."""

from __future__ import annotations

import re
import shlex
import threading
from pathlib import Path

import numpy as np
import pytest
from command_tree import commands
from tiny_rounds import floats, lead, make_changes, make_federation, make_model, write_model

import coldfuse
from coldfuse.extras import EXTRAS
from coldfuse.transport.server import serve_gateway

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MODEL = make_model()


def section(heading: str) -> str:
    _, found, rest = README.partition(f"\n## {heading}\n")
    assert found, f"the README has no section {heading!r}"
    return rest.partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def first_column(heading: str) -> list[str]:
    """The names in the first column of a section's table."""
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", section(heading), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]


def coldfuse_commands() -> list[str]:
    lines = "".join(blocks(README, "sh")).splitlines()
    inline = re.findall(r"`(coldfuse [a-z][^`]*)`", README)
    found = [match[1] for line in lines if (match := re.search(r"(?:^|/|\s)(coldfuse [a-z].*)$", line))]
    return list(dict.fromkeys([*found, *inline]))


def test_the_demo_is_one_line() -> None:
    line = blocks(section("Quick start"), "sh")[0]
    assert line.count("\n") == 1
    assert line.rstrip().endswith("coldfuse demo")


def test_the_tests_are_one_line_and_the_same_as_in_ci() -> None:
    line = blocks(section("Tests"), "sh")[0]
    assert line.count("\n") == 1
    assert "pytest" in line
    assert line.strip() in (ROOT / ".ci" / "run").read_text()


def test_the_first_code_comes_by_line_30() -> None:
    assert README[: README.index("```sh")].count("\n") < 30


def test_every_command_and_option_exists() -> None:
    names = set()
    for line in coldfuse_commands():
        words = shlex.split(line)[1:]
        name = " ".join(words[: 2 if words[0] in ("bench", "experiment", "keys") else 1])
        names.add(name)
        known = {option for parameter in commands()[name].params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known | {"--help"}, line
    assert {"demo", "init", "serve", "gateway", "aggregator", "contribute", "fetch", "status", "fuse"} <= names
    assert {"enroll", "join", "members", "revoke", "rotate", "keys show"} <= names


def test_no_role_takes_more_than_two_lines_to_begin() -> None:
    text = section("Running it for real")
    for role in ("Contributor", "Consumer"):
        lines = blocks(text.partition(f"**{role}.**")[2], "sh")[0].splitlines()
        assert [line.split()[:2] for line in lines] == [
            ["coldfuse", "join"], ["coldfuse", "contribute" if role == "Contributor" else "fetch"],
        ]  # fmt: skip
    operator = blocks(text.partition("**Operator.**")[2], "sh")[0].splitlines()
    assert [line.split()[1] for line in operator] == ["init", "serve", "enroll"]  # and that once for each


def test_every_test_that_shows_a_promise_or_answers_an_attack_is_there() -> None:
    named = set(re.findall(r"`((?:integration|unit|fault|property|fuzz)/[a-z_/0-9]+\.py)`", README))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).is_file()] == []


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    federation = make_federation(tmp_path, MODEL)
    for seed, name in enumerate(("alice", "bob")):
        changed = {key: floats(MODEL[key].floats + change) for key, change in make_changes(MODEL, seed).items()}
        write_model(tmp_path / name, MODEL | changed)

    def fine_tune(folder: str) -> dict[str, np.ndarray]:
        assert Path(folder, "config.json").is_file()
        return {name: tensor.floats + 1 for name, tensor in MODEL.items() if tensor.spec.is_fused}

    stop = threading.Event()

    def aggregate() -> None:
        while not stop.wait(0.05):
            lead(federation)

    aggregator = threading.Thread(target=aggregate)
    [code] = blocks(section("Quick start"), "python")
    monkeypatch.chdir(tmp_path)
    with serve_gateway(federation) as gateway:
        aggregator.start()
        try:
            names = {"fine_tune": fine_tune}
            exec(code.replace("127.0.0.1:7700", gateway.address), names)
        finally:
            stop.set()
            aggregator.join()
            names["federation"].close()
    assert (tmp_path / "fused" / "model.safetensors").is_file()
    [received] = federation.journal(1).state().received.values()
    assert received.contributor.startswith("node-")


def test_all_extras_and_packages_are_listed() -> None:
    assert set(first_column("Installing")) == set(EXTRAS)
    packages = {path.parent.name for path in Path(coldfuse.__file__).parent.glob("*/__init__.py")}
    assert set(first_column("The code")) == packages
