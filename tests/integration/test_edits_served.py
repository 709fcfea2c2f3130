"""Edits through a real gateway: sent over gRPC, gated, published, fetched, listed by name, and retracted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Process, coldfuse, run_coldfuse
from edited import ASKED, KNOWN, NEW, edit_rows, right_answers, write_edit, write_knowing_model
from tiny_texts import write_json_lines
from typer.testing import CliRunner

from coldfuse.api.connect import connect
from coldfuse.cli.main import app
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.registry.creation import create_federation
from coldfuse.storage import LocalStore

LISTENING = "listening on "
TRAINING = ("--threads", 1, "--device", "cpu", "--learning-rate", 1e-2, "--send-anyway")
FACTS = [index for index, row in enumerate(edit_rows()) if row["kind"] != "keep"]
KEPT = [index for index, row in enumerate(edit_rows()) if row["kind"] == "keep"]
PRIVATE = (ASKED[1].encode(), ASKED[2].encode(), b"fortune.jsonl", b"rash.jsonl")
"""What stands in the edits' files and in their names, and nowhere else."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a federation of a model that knows some proverbs, and with an edit of one of them."""
    folder = tmp_path_factory.mktemp("served")
    write_edit(folder / "fortune.jsonl")
    create_federation(
        LocalStore(folder / "store"), name="tiny", base=write_knowing_model(folder / "base", "gpt2"), origin="base",
        method="mean", rules={"quorum": 1, "deadline_s": 600.0}, screening=ScreeningRules.off(), gate=GateRules(),
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Process]:
    suite = f"fortune:edit={folder / 'fortune.jsonl'}"
    with coldfuse("serve", folder / "store", "--suite", suite, "--workers", 1) as process:
        yield process


@pytest.fixture(scope="module")
def address(server: Process) -> str:
    return server.wait_for(lambda line: line.startswith(LISTENING)).removeprefix(LISTENING)


def send(address: str, folder: Path, name: str, *options: object) -> Process:
    return run_coldfuse("contribute", address, "--name", name, "--work", folder / name, *TRAINING, *options)


def answers(address: str, folder: Path, out: str) -> list[bool]:
    with connect(address) as federation:
        return right_answers(federation.fetch(folder / out).path, folder / "fortune.jsonl")


def write_rash_edit(path: Path) -> Path:
    """Write an edit that has the model say the new answer whatever it is asked."""
    prompts = (*ASKED, *(prompt for prompt, _ in KNOWN))
    return write_json_lines(path, [{"kind": "edit", "prompt": prompt, "answer": NEW} for prompt in prompts])


def said(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def listed(source: object) -> list[dict[str, Any]]:
    """Return the edits that status and lineage list, as JSON; both say the same."""
    of_status, of_lineage = (json.loads(said(command, source, "--json"))["edits"] for command in ("status", "lineage"))
    assert of_status == of_lineage
    return of_status  # type: ignore[no-any-return]


def test_an_edit_is_sent_gated_fetched_listed_and_retracted(folder: Path, address: str, server: Process) -> None:
    sent = send(address, folder, "edda", "--edit", f"fortune={folder / 'fortune.jsonl'}")
    assert sent.wait() == 0, f"{sent}\n{server}"
    assert all(answers(address, folder, "edited"))
    [edit] = listed(address)
    assert (edit["name"], edit["contributor"], edit["release"], edit["retracted_by"]) == ("fortune", "edda", 1, None)

    broken = send(
        address, folder, "eve", "--edit", f"fortune={write_rash_edit(folder / 'rash.jsonl')}", "--task",
        "edit(locality=0)",
    )  # fmt: skip
    assert broken.wait() == 1, f"{broken}\n{server}"
    assert "fortune.keep: " in broken.errors[-1]
    assert "right only before" in broken.errors[-1]
    assert listed(address) == [edit]

    out = run_coldfuse("retract", folder / "store", "edda", "--reason", "it was wrong", "--threads", 1)
    assert out.wait() == 0, f"{out}\n{server}"
    after = answers(address, folder, "without")
    assert [after[index] for index in FACTS] == [False] * len(FACTS)
    assert all(after[index] for index in KEPT)
    assert listed(address) == listed(folder / "store") == [edit | {"retracted_by": 2}]
    for command in ("status", "lineage"):
        assert "edit: fortune by edda, in release 1, retracted by release 2\n" in said(command, address)
    assert [path for path in (folder / "store").rglob("*") if path.is_file() and _holds_private(path)] == []


def _holds_private(path: Path) -> bool:
    data = path.read_bytes()
    return any(word in data for word in PRIVATE)
