"""The committed code of the wire is what the .proto files give."""

import subprocess
import sys
from pathlib import Path

import pytest

from coldfuse.transport.pb import gateway_pb2 as pb

ROOT = Path(__file__).parent.parent.parent
PACKAGE = Path("coldfuse/transport/pb")


def test_the_committed_code_is_what_the_protos_give(tmp_path):
    pytest.importorskip("grpc_tools")
    command = [sys.executable, str(ROOT / "protos/generate.py"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    fresh = sorted(path.name for path in (tmp_path / PACKAGE).iterdir())
    assert fresh == sorted(path.name for path in (ROOT / PACKAGE).glob("*_pb2*.py*"))
    for name in fresh:
        assert _code(tmp_path / PACKAGE / name) == _code(ROOT / PACKAGE / name), "run `python protos/generate.py`"


def test_every_enum_begins_with_what_was_not_said():
    assert {enum.values_by_number[0].name for enum in pb.DESCRIPTOR.enum_types_by_name.values()} == {
        "DECISION_UNSPECIFIED"
    }


def _code(path):
    """Leave out what only tells the generator's version."""
    lines = path.read_text().splitlines()
    return [line for line in lines if not _tells_version(line)]


def _tells_version(line):
    bare = line.strip()
    return "Protobuf Python Version" in bare or "GENERATED_VERSION = " in bare or bare.rstrip(",").isdecimal()
