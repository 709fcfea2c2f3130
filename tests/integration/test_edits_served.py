"""Edits through a gateway process: sent over gRPC, gated, published, fetched, listed by name, and retracted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import coldfuse
from edited import ASKED, KNOWN, NEW, edit_rows, right_answers, write_edit, write_knowing_model
from tiny_nodes import aggregating
from tiny_texts import write_json_lines
from typer.testing import CliRunner

from coldfuse.aggregator.examining import SuiteExaminer
from coldfuse.cli.main import app
from coldfuse.core.gate_rules import GateRules
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.errors import ContributionRejectedError
from coldfuse.evaluation.named_suites import SuiteFiles, read_named_suite
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.storage import LocalStore

LISTENING = "listening on "
TRAINING = ("--threads", 1, "--device", "cpu", "--learning-rate", 1e-2, "--send-anyway")
FACTS = [index for index, row in enumerate(edit_rows()) if row["kind"] != "keep"]
KEPT = [index for index, row in enumerate(edit_rows()) if row["kind"] == "keep"]
PRIVATE = (ASKED[1].encode(), ASKED[2].encode(), b"fortune.jsonl", b"rash.jsonl")
"""What stands in the edits' files and in their names, and nowhere else."""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """A federation of a model that knows some proverbs, with a gate."""
    base = write_knowing_model(tmp_path / "base", "gpt2")
    return create_federation(
        LocalStore(tmp_path / "store"), name="tiny", base=base, origin="base", method="mean",
        rules={"quorum": 1, "deadline_s": 600.0}, screening=ScreeningRules.off(), gate=GateRules(),
    )  # fmt: skip


@pytest.fixture
def address(federation: Federation) -> Iterator[str]:
    with coldfuse("gateway", federation.store.url) as gateway:
        yield gateway.wait_for(lambda line: line.startswith(LISTENING)).removeprefix(LISTENING)


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def send(address: str, file: Path, name: str, *options: object) -> str:
    """Contribute an edit, and wait for its release."""
    node = ("--name", name, "--work", file.parent / name)
    return run("contribute", address, "--edit", f"fortune={file}", *node, *TRAINING, *options)


def write_rash_edit(path: Path) -> Path:
    """Write an edit that has the model say the new answer whatever it is asked."""
    prompts = (*ASKED, *(prompt for prompt, _ in KNOWN))
    return write_json_lines(path, [{"kind": "edit", "prompt": prompt, "answer": NEW} for prompt in prompts])


def answers(address: str, file: Path, out: str) -> list[bool]:
    run("fetch", address, "--out", file.parent / out)
    return right_answers(file.parent / out, file)


def listed(source: object) -> list[dict[str, Any]]:
    """Return the edits that status and lineage list, as JSON; both say the same."""
    of_status, of_lineage = (json.loads(run(command, source, "--json"))["edits"] for command in ("status", "lineage"))
    assert of_status == of_lineage
    return of_status  # type: ignore[no-any-return]


def test_an_edit_is_sent_gated_fetched_listed_and_retracted(
    federation: Federation, address: str, tmp_path: Path
) -> None:
    file, rash = write_edit(tmp_path / "fortune.jsonl"), write_rash_edit(tmp_path / "rash.jsonl")
    examiner = SuiteExaminer([read_named_suite(SuiteFiles.parse(f"fortune:edit={file}"))])
    with aggregating(federation, examiner=examiner, lease_ttl_s=30.0):
        send(address, file, "edda")
        assert all(answers(address, file, "edited"))
        [edit] = listed(address)
        assert (edit["name"], edit["contributor"], edit["release"]) == ("fortune", "edda", 1)

        with pytest.raises(ContributionRejectedError, match=r"fortune\.keep: \d+ right only before"):
            send(address, rash, "eve", "--task", "edit(locality=0)")
        assert listed(address) == [edit | {"retracted_by": None}]

    run("retract", federation.store.url, "edda", "--reason", "it was wrong", "--threads", 1)
    after = answers(address, file, "without")
    assert [after[index] for index in FACTS] == [False] * len(FACTS)
    assert all(after[index] for index in KEPT)
    assert listed(address) == listed(federation.store.url) == [edit | {"retracted_by": 2}]
    for command in ("status", "lineage"):
        assert "edit: fortune by edda, in release 1, retracted by release 2\n" in run(command, address)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file() and _holds_private(path)] == []


def _holds_private(path: Path) -> bool:
    data = path.read_bytes()
    return any(word in data for word in PRIVATE)
