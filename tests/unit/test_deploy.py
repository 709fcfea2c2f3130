"""What lies in deploy/ fits the code: options exist, copied files exist."""

import itertools
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.processes import HOPELESS

ROOT = Path(__file__).parents[2]


COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def commands() -> list[list[str]]:
    """All commands: of services, in their scripts, and in what the file says how to use it."""
    found = [service["command"] for service in SERVICES.values() if "command" in service]
    scripts = [service["entrypoint"][-1] for service in SERVICES.values() if "entrypoint" in service]
    printed = re.findall(r"run --rm -T operator (.*) >", (ROOT / "deploy/compose.yaml").read_text())
    said = [line for script in scripts for line in re.findall(r"coldfuse (.*)", script)]
    return [*found, *map(str.split, said + printed)]


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[0])
def test_compose_uses_options_that_exist(command):
    assert_options_exist(command)


def assert_options_exist(command: list[str]) -> None:
    result = CliRunner().invoke(app, [command[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})

    assert result.exit_code == 0
    assert [word for word in command if word.startswith("--") and word not in result.output] == []


def test_compose_starts_every_role():
    assert sorted(command[0] for command in commands()) == [
        "aggregator", "certs", "contribute", "enroll", "gateway", "init", "join", "keys", "members",
    ]  # fmt: skip


def test_compose_gives_each_service_the_keys_that_are_its_own():
    mounts = {name: {volume.partition(":")[0] for volume in service["volumes"]} for name, service in SERVICES.items()}
    assert {name for name, volumes in mounts.items() if "operator" in volumes} == {"init", "operator"}
    assert {name for name, volumes in mounts.items() if "aggregator" in volumes} == {"init", "aggregator"}
    assert "store" not in mounts["contributor"]
    assert [name for name, service in SERVICES.items() if "secrets" in service] == ["contributor"]
    assert SERVICES["contributor"]["secrets"] == list(COMPOSE["secrets"])
    assert not any("TOKEN" in str(service) for service in SERVICES.values())  # no secret in an environment


def test_compose_tells_gateway_and_aggregator_the_fingerprint_and_neither_can_change_it():
    told = {command[0]: command[command.index("--root") + 1 :] for command in commands() if "--root" in command}
    assert sorted(told) == ["aggregator", "gateway"]
    assert {" ".join(words[:2]) for words in told.values()} == {"$$(cat /known/root)"}  # compose makes $ of $$
    mounts = {name: [v for v in service["volumes"] if v.startswith("known:")] for name, service in SERVICES.items()}
    assert {name: found for name, found in mounts.items() if found} == {
        "init": ["known:/known"], "gateway": ["known:/known:ro"], "aggregator": ["known:/known:ro"],
    }  # fmt: skip
    script = SERVICES["init"]["entrypoint"][-1]
    assert script.endswith("""
coldfuse keys show /data/federation > /known/keys
sed -n "s/^fingerprint //p" /known/keys > /known/root
""")


def test_in_compose_nobody_speaks_plain_text_and_only_certs_sees_the_authority():
    assert not [command for command in commands() if "--insecure" in command]
    places = {
        name: {v.split(":")[1]: v.split(":")[0] for v in service["volumes"]} for name, service in SERVICES.items()
    }
    assert [name for name, volumes in places.items() if "authority" in volumes.values()] == ["certs"]
    assert {name for name, volumes in places.items() if "tls" in volumes.values()} == {"certs", "gateway"}
    for name, service in SERVICES.items():
        words = service.get("command") or service["entrypoint"][-1].split()
        for option, file in itertools.pairwise(words):
            if option.startswith("--tls-"):
                assert str(Path(file).parent) in places[name], (name, option)


def test_what_compose_mounts_belongs_to_the_user_of_the_image():
    made = " ".join(re.findall(r"install -d (.*?)(?:&&|$)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))
    mounted = [volume.split(":")[:2] for service in SERVICES.values() for volume in service["volumes"]]
    assert {place for source, place in mounted if source.isalpha()} <= set(made.split())


def test_dockerfile_copies_what_there_is():
    lines = re.findall(r"^COPY (.*) \S+$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)

    assert all((ROOT / source).exists() for line in lines for source in line.split())
    assert {"pyproject.toml", "README.md", "LICENSE", "coldfuse"} == {s for line in lines for s in line.split()}


def read_unit(name: str) -> list[tuple[str, str]]:
    """Return the settings of a unit, some of which stand there more than once."""
    lines = (ROOT / "deploy" / name).read_text().splitlines()
    return [(key, value) for line in lines if line[:1] not in "#[" for key, _, value in [line.partition("=")]]


def test_the_unit_of_systemd_uses_options_that_exist_and_leaves_alone_what_is_hopeless():
    unit = dict(read_unit("coldfuse.service"))
    program, *command = unit["ExecStart"].split()
    assert program.endswith("/coldfuse")
    assert_options_exist(command)
    assert unit["Restart"] == "always"
    assert tuple(map(int, unit["RestartPreventExitStatus"].split())) == HOPELESS
    assert unit["StartLimitIntervalSec"] == "0"  # its starts are never counted against it


def test_the_gateway_of_systemd_gets_its_key_as_a_credential_that_the_renewal_encrypts():
    unit, renewal = read_unit("coldfuse.service"), read_unit("coldfuse-certs.service")
    loaded = dict(value.split(":") for key, value in unit if key.startswith("LoadCredential"))
    assert set(re.findall(r"%d/(\S+)", dict(unit)["ExecStart"])) == set(loaded) == {"gateway.pem", "gateway.key"}
    assert dict(unit)["LoadCredentialEncrypted"].startswith("gateway.key:")
    certs, _, encrypt = (value.split() for key, value in renewal if key == "ExecStart")
    assert_options_exist(certs[1:])
    assert Path(loaded["gateway.pem"]).parent == Path(certs[-1])
    assert encrypt[-3:] == ["--name=gateway.key", f"{certs[-1]}/gateway.key", loaded["gateway.key"]]
    assert (ROOT / "deploy/coldfuse-certs.timer").exists()
