"""What deploy/ does with certificates, done here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from federations import make_federation

from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import GatewaySettings, serve_gateway
from coldfuse.trust.tls import TlsFiles

DEPLOY = Path(__file__).parents[2] / "deploy"


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_script_of_compose_gives_gateway_and_nodes_what_they_need(tmp_path):
    script = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["certs"]["entrypoint"][-1]
    script = script.replace("${COLDFUSE_HOST:-localhost}", "localhost")
    for name in ("authority", "tls", "trusted"):
        (tmp_path / name).mkdir()
        script = script.replace(f"/{name}", str(tmp_path / name))
    programs = tmp_path / "bin"
    programs.mkdir()
    write_program(programs / "coldfuse", f'exec {sys.executable} -m coldfuse "$@"')
    write_program(programs / "sleep", "exit 0")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(DEPLOY.parent)}
    for _ in range(2):  # it is started again every day
        subprocess.run(["sh", "-ec", script], env=environment, check=True, timeout=60)
    assert sorted(path.name for path in (tmp_path / "tls").iterdir()) == ["gateway.key", "gateway.pem"]
    assert [path.name for path in (tmp_path / "trusted").iterdir()] == ["ca.pem"]
    assert (tmp_path / "tls/gateway.key").stat().st_mode & 0o077 == 0
    tls = TlsFiles(cert=tmp_path / "tls/gateway.pem", key=tmp_path / "tls/gateway.key")
    federation = make_federation(LocalStore(tmp_path / "store"))
    with (
        serve_gateway(federation, GatewaySettings(listen="localhost:0", tls=tls)) as gateway,
        GatewayClient(gateway.address, tls=TlsFiles(ca=tmp_path / "trusted/ca.pem")) as client,
    ):
        assert client.status().name == "tiny"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    names = ("coldfuse.service", "coldfuse-certs.service", "coldfuse-certs.timer")
    for name in names:
        text = (DEPLOY / name).read_text().replace("/usr/local/bin/coldfuse", shutil.which("true") or "/bin/true")
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", *(str(tmp_path / name) for name in names)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    about = [line for line in result.stderr.splitlines() if "coldfuse" in line]
    assert (result.returncode, about) == (0, [])
