"""The README's commands, as printed: they are one line where one line is promised, and every option in them exists."""

import re
import shlex
from pathlib import Path

import pytest
from commands import run_coldfuse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks_below(heading: str) -> list[str]:
    """The shell blocks of a section."""
    _, found, rest = README.partition(f"\n## {heading}\n")
    assert found, f"the README has no section {heading!r}"
    return re.findall(r"^```sh\n(.*?)^```$", rest.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


def coldfuse_commands() -> list[str]:
    lines = "".join(re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)).splitlines()
    inline = re.findall(r"`(coldfuse [a-z][^`]*)`", README)
    found = [match[1] for line in lines if (match := re.search(r"(?:^|/|\s)(coldfuse [a-z].*)$", line))]
    return list(dict.fromkeys([*found, *inline]))


def test_the_demo_is_one_line():
    line = blocks_below("Quick start")[0]
    assert line.count("\n") == 1
    assert line.rstrip().endswith("coldfuse demo")


def test_the_tests_are_one_line_and_the_same_as_in_ci():
    line = blocks_below("Tests")[0]
    assert line.count("\n") == 1
    assert "pytest" in line
    assert line.strip() in (ROOT / ".ci" / "run").read_text()


def test_the_first_code_comes_by_line_30():
    assert README[: README.index("```sh")].count("\n") < 30


@pytest.mark.parametrize("command", coldfuse_commands())
def test_every_command_and_option_exists(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # or long options are cut off
    words = shlex.split(command)[1:]
    name = words[:2] if words[0] == "bench" else words[:1]
    shown = run_coldfuse(*name, "--help").succeed()
    known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join(shown.lines)))
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= known


def test_there_are_commands_to_check():
    names = {command.split()[1] for command in coldfuse_commands()}
    assert {"demo", "init", "serve", "gateway", "aggregator", "contribute", "fetch", "status", "fuse"} <= names
