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


COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())


def commands() -> list[list[str]]:
    services = COMPOSE["services"].values()
    scripts = [service["entrypoint"][-1] for service in services if "entrypoint" in service]
    said = re.findall(r"coldfuse ((?:init|join|contribute) .*)", "\n".join(scripts))
    printed = re.findall(r"run --rm operator (.*) >", (ROOT / "deploy/compose.yaml").read_text())
    return [*(service["command"] for service in services if "command" in service), *map(str.split, said + printed)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[0])
def test_compose_uses_options_that_exist(command):
    assert_options_exist(command)


def assert_options_exist(command: list[str]) -> None:
    result = CliRunner().invoke(app, [command[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})

    assert result.exit_code == 0
    assert [word for word in command if word.startswith("--") and word not in result.output] == []


def test_compose_starts_every_role():
    assert sorted(command[0] for command in commands()) == [
        "aggregator", "contribute", "enroll", "gateway", "init", "join", "members",
    ]  # fmt: skip


def test_compose_gives_each_service_the_keys_that_are_its_own():
    mounts = {
        name: {volume.partition(":")[0] for volume in service.get("volumes", ["store"])}
        for name, service in COMPOSE["services"].items()
    }
    assert {name for name, volumes in mounts.items() if "operator" in volumes} == {"init", "operator"}
    assert {name for name, volumes in mounts.items() if "aggregator" in volumes} == {"init", "aggregator"}
    assert "store" not in mounts["contributor"]
    assert [name for name, service in COMPOSE["services"].items() if "secrets" in service] == ["contributor"]
    assert COMPOSE["services"]["contributor"]["secrets"] == list(COMPOSE["secrets"])
    assert not any("TOKEN" in str(service) for service in COMPOSE["services"].values())  # no secret in an environment


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
