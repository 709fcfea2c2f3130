"""Which edits a federation has, as `status` and `lineage` list them: from a store, and from a gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from retracted_rounds import take_out
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.registry.federation import Federation
from coldfuse.transport.server import serve_gateway

MODEL = make_model()


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """A federation of an edit, of an ordinary contribution, and of another edit."""
    federation = make_federation(tmp_path, MODEL, quorum=1)
    for number, (name, edit) in enumerate((("edda", "capital"), ("ada", None), ("ben", "fortune")), start=1):
        lead(federation, number)
        contribute(federation, name, make_changes(MODEL, number), edit=edit)
        lead(federation, number, now_s=9.0)
    return federation


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(*arguments: object) -> dict[str, Any]:
    return json.loads(run(*arguments, "--json"))  # type: ignore[no-any-return]


def edit_lines(*arguments: object) -> list[str]:
    return [line for line in run(*arguments).splitlines() if line.startswith("edit: ")]


def test_status_and_lineage_list_edits_by_name_by_whom_in_which_release_and_whether_they_are_out(
    federation: Federation,
) -> None:
    digest = federation.release(1).contributions[0].contribution
    with serve_gateway(federation) as gateway:
        for source in (federation.store.url, gateway.address):
            for command in ("status", "lineage"):
                assert edit_lines(command, source) == [
                    "edit: fortune by ben, in release 3", "edit: capital by edda, in release 1"
                ]  # fmt: skip
        take_out(federation, digest)
        for source in (federation.store.url, gateway.address):
            for command in ("status", "lineage"):
                assert edit_lines(command, source) == [
                    "edit: fortune by ben, in release 3", "edit: capital by edda, in release 1, retracted by release 4"
                ]  # fmt: skip
            assert document("status", source)["edits"][1] == {
                "name": "capital", "contributor": "edda", "display_name": None, "contribution": digest, "release": 1,
                "retracted_by": 4, "is_taken_back": False,
            }  # fmt: skip
        assert document("lineage", gateway.address) == document("lineage", federation.store.url)
        assert "├─ edda: edit capital, 100 examples" in run("lineage", gateway.address, "--release", 1)


def test_a_lineage_that_shows_few_releases_lists_their_edits(federation: Federation) -> None:
    assert edit_lines("lineage", federation.store.url, "--last", 2) == [
        "edit: fortune by ben, in release 3", "edit: … 2 older releases not looked at"
    ]  # fmt: skip
    assert document("lineage", federation.store.url, "--last", 2)["releases_not_looked_at"] == 2


def test_without_edits_nothing_is_said_of_them(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL)
    for command in ("status", "lineage"):
        assert "edit" not in run(command, federation.store.url)
        assert document(command, federation.store.url)["edits"] == []
