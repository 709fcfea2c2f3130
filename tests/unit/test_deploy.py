"""What lies in deploy/ fits the code: options exist, copied files exist."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.processes import HOPELESS

ROOT = Path(__file__).parents[2]


def commands() -> list[list[str]]:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    found = [service["command"] for service in services.values() if "command" in service]
    script = services["init"]["entrypoint"][-1]
    return [*found, re.search(r"coldfuse (init .*)", script)[1].split()]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[0])
def test_compose_uses_options_that_exist(command):
    assert_options_exist(command)


def assert_options_exist(command: list[str]) -> None:
    result = CliRunner().invoke(app, [command[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})

    assert result.exit_code == 0
    assert [word for word in command if word.startswith("--") and word not in result.output] == []


def test_compose_starts_every_role():
    assert sorted(command[0] for command in commands()) == ["aggregator", "contribute", "gateway", "init"]


def test_dockerfile_copies_what_there_is():
    lines = re.findall(r"^COPY (.*) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)

    assert all((ROOT / source).exists() for line in lines for source in line.split())
    assert {"pyproject.toml", "README.md", "LICENSE", "coldfuse"} == {s for line in lines for s in line.split()}


def test_the_unit_of_systemd_uses_options_that_exist_and_leaves_alone_what_is_hopeless():
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy/coldfuse.service")
    service = unit["Service"]
    program, *command = service["ExecStart"].split()
    assert program.endswith("/coldfuse")
    assert_options_exist(command)
    assert service["Restart"] == "always"
    assert tuple(map(int, service["RestartPreventExitStatus"].split())) == HOPELESS
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"  # its starts are never counted against it
