"""`coldfuse set`, killed at each of its writes: the change is made or it is not, and it can be made again."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from commands import Process
from fault import set_process
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore

MODEL = make_model()


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_change_leaves_a_valid_store(tmp_path: Path, number: int, moment: str) -> None:
    federation = make_federation(tmp_path, MODEL)
    store, log = federation.store.url, tmp_path / "log"
    run("set", store, "--quorum", 3)

    command = [sys.executable, set_process.__file__, log, moment, number, store, "--quorum", 1, "--deadline", "2h"]
    with Process(*command) as victim:
        assert victim.wait() == -signal.SIGKILL, str(victim)
    assert log.read_text().endswith(f"struck {moment} {number}\n")

    is_made = (number, moment) == (1, "after")
    survivor = open_federation(LocalStore(store))
    assert survivor.settings.rules.quorum == (1 if is_made else 3)
    assert [change.number for change in survivor.changes()] == ([2, 1] if is_made else [1])
    again = run("set", store, "--quorum", 1, "--deadline", "2h")
    assert again.startswith("nothing to change" if is_made else "changed")
    assert [str(change) for change in survivor.changes()] == ["quorum 3 → 1, deadline 1m → 2h", "quorum 2 → 3"]
    lead(survivor)
    contribute(survivor, "ada", make_changes(MODEL, 0))
    assert lead(survivor)[-1].event == "published"
