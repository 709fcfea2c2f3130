"""A federation of before there were keys, as an older version left it, is taken over by commands, and goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from commands import coldfuse
from tiny_rounds import lead, read_model
from typer.testing import CliRunner
from upgrades.record import unpack

import coldfuse as api
from coldfuse.cli.main import app
from coldfuse.cli.serving import with_keys
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore

RECORDED = Path(__file__).parent.parent / "data" / "layout_1"
EXPECTED = json.loads((RECORDED / "expected.json").read_text())


def test_its_history_stays_and_is_said_to_be_unsigned_and_what_comes_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, model = unpack(RECORDED / "store.tar.gz", tmp_path / "store"), tmp_path / "model"

    def run(home: str, *words: object, status: int = 0) -> str:
        monkeypatch.setenv("COLDFUSE_HOME", str(tmp_path / home))
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == status, result.output
        return result.stdout

    root = next(line for line in run("operator", "init", store, "--adopt").splitlines() if line.startswith("finger"))
    root = root.split()[1]
    with coldfuse("gateway", store) as gateway:
        address = gateway.wait_for(lambda line: line.startswith("listening on ")).removeprefix("listening on ")
        run("operator", "enroll", store, "ada", "--address", address, "--out", tmp_path / "ada.token")
        run("ada", "join", tmp_path / "ada.token")
        federation = with_keys_of(tmp_path / "operator", store, monkeypatch)
        monkeypatch.setenv("COLDFUSE_HOME", str(tmp_path / "ada"))
        with api.connect(address, retry_s=10) as node:
            assert node.fetch(model).release == 2
            for _ in range(2):  # the round that was open, unsigned, comes to its end first
                number = federation.current_round()
                lead(federation, number, now_s=time.time())
            state = {n: t.floats + np.float32(0.01) for n, t in read_model(model).items() if t.spec.is_fused}
            node.contribute(state, num_examples=10, base=model, wait=False)
        lead(federation, number, now_s=time.time() + 10_000)
    assert "ada" in [one.contributor for one in federation.latest().contributions]
    report = json.loads(run("auditor", "verify", store, "--root", root, "--json"))
    assert {f["cause"] for f in report["findings"]} == {"unsigned"}
    said = " ".join(f["where"] + f["why"] for f in report["findings"])
    assert [number for number in range(4) if f"releases/{number:05d}" in said or f"release {number}" in said] == [
        0,
        1,
        2,
    ]
    run("auditor", "verify", store, "--root", root, "--strict", status=3)


def with_keys_of(home: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Open the federation as its aggregator does."""
    monkeypatch.setenv("COLDFUSE_HOME", str(home))
    return with_keys(open_federation(LocalStore(store)), None)
