"""`coldfuse lineage` on a store, at an address, and in a fetched folder."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from federation_keys import TinyTrust
from tiny_rounds import contribute, lead, make_changes, make_federation, make_model, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.consumer import fetch
from coldfuse.core.model_files import PROVENANCE_FILE
from coldfuse.core.serialization import encode
from coldfuse.errors import FederationError, SignatureError, UnknownRootError, UserInputError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.registry.releases import release_key
from coldfuse.registry.signing import sign_anew
from coldfuse.storage import LocalStore
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.envelope import read_envelope
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.provenance import statement_key

MODEL = make_model()


def run(source: object, *arguments: object) -> str:
    result = CliRunner().invoke(app, ["lineage", str(source), *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def error_of(source: object, *arguments: object) -> BaseException | None:
    return CliRunner().invoke(app, ["lineage", str(source), *map(str, arguments)]).exception


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    """A federation of releases 0 to 3 without a root."""
    federation = make_federation(tmp_path, MODEL)
    for number in range(1, 4):
        for name in ("ada", "ben"):
            contribute(federation, name, make_changes(MODEL, number + ord(name[0])))
        lead(federation, number)
    return federation


@pytest.fixture
def rooted(tmp_path: Path) -> tuple[Federation, FounderKeys]:
    """A federation with a root, and release 0."""
    keys = TinyTrust()
    trust = FounderKeys(operators=[keys.operator], aggregator=keys.aggregator, model=keys.model)
    base = write_model(tmp_path / "base", MODEL)
    rules = {"quorum": 2, "deadline_s": 60.0}
    store = LocalStore(tmp_path / "rooted")
    made = create_federation(store, name="ward", base=base, origin="base", method="mean", rules=rules, trust=trust)
    return made, trust


def test_the_whole_history_is_told_and_says_that_nobody_has_signed_it(federation: Federation) -> None:
    lines = run(federation.store.url).splitlines()
    assert lines[0] == "this federation has no root: nothing in it is signed"
    heads = [line.split()[1] for line in lines if line.startswith("release ")]
    assert heads == ["3", "2", "1", "0"]
    assert lines.count("│ unsigned") == 4
    assert sum(line.startswith("├─ ada: 100 examples, weight") for line in lines) == 3


def test_a_gateway_tells_the_same(federation: Federation) -> None:
    with serve_gateway(federation) as gateway:
        assert run(gateway.address) == run(federation.store.url)
        assert run(gateway.address, "--json") == run(federation.store.url, "--json")


def test_as_many_are_shown_as_are_asked_for_and_the_rest_is_counted(federation: Federation) -> None:
    lines = run(federation.store.url, "--last", 1).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("release ")] == ["3"]
    assert lines[-1] == "… 3 releases before: --last 4, or --all"
    assert "before:" not in run(federation.store.url, "--last", 1, "--all")
    document = json.loads(run(federation.store.url, "--release", 2, "--last", 2, "--json"))
    assert [release["release"] for release in document["releases"]] == [2, 1]
    assert (document["root"], document["older"]) == (None, 1)


def test_a_picture_is_written_beside_the_words(federation: Federation, tmp_path: Path) -> None:
    said = run(federation.store.url, "--svg", tmp_path / "lineage.svg")
    assert said == run(federation.store.url)
    assert ET.parse(tmp_path / "lineage.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_what_is_not_there_is_refused(federation: Federation, tmp_path: Path) -> None:
    error = error_of(federation.store.url, "--release", 7)
    assert isinstance(error, FederationError)
    assert str(error) == "there is no release 7; the latest is 3"
    assert isinstance(error_of(tmp_path / "nothing"), FederationError)


def test_a_base_is_signed_as_a_federation_is_created(rooted: tuple[Federation, FounderKeys]) -> None:
    federation, trust = rooted
    assert isinstance(error_of(federation.store.url), UnknownRootError)
    lines = run(federation.store.url, "--root", federation.settings.root).splitlines()
    assert lines[0] == f"root {federation.settings.root}"
    assert lines[3] == f"│ signed by aggregator {trust.aggregator.public.id[:12]}"
    document = json.loads(run(federation.store.url, "--json"))
    assert document["releases"][0]["signed_by"] == trust.aggregator.public.id


def test_a_signature_of_somebody_else_ends_it_with_an_error_that_names_the_release(
    rooted: tuple[Federation, FounderKeys],
) -> None:
    federation, _ = rooted
    payload = read_envelope(federation.store.get(statement_key(0)), what="x").content("provenance", what="x")
    sign_anew(federation.store, 0, payload, PrivateKey.generate())
    error = error_of(federation.store.url, "--root", federation.settings.root)
    assert isinstance(error, SignatureError)
    assert str(error).startswith("release 0: releases/00000.sig: is signed by")


def test_a_release_that_the_signed_channel_does_not_name_is_refused(rooted: tuple[Federation, FounderKeys]) -> None:
    federation, _ = rooted
    other = federation.latest().model_copy(update={"created_at_s": 5.0})
    key = release_key(0)
    etag = federation.store.get_with_etag(key)[1]
    federation.store.compare_and_swap(key, encode(other), etag=etag)
    federation.objects.put_value(other)  # so that it looks like one that was written by coldfuse
    federation.store.delete(statement_key(0))
    error = error_of(federation.store.url, "--root", federation.settings.root)
    assert isinstance(error, SignatureError)
    assert "the signed channel names another manifest" in str(error)


def test_a_fetched_folder_tells_what_it_knows(rooted: tuple[Federation, FounderKeys], tmp_path: Path) -> None:
    federation, trust = rooted
    fetch(StoreGateway(federation), tmp_path / "out")
    lines = run(tmp_path / "out").splitlines()
    assert lines[0] == ("a release in a folder; this machine knows no root of it: who has signed is not known")
    assert "which is not known here" in lines[3]
    home = tmp_path / "home"
    folder = FederationFolder(home, str(federation.settings.root))
    folder.pin_root(federation.store.get("root/1.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLDFUSE_HOME", str(home))
        lines = run(tmp_path / "out").splitlines()
        assert lines[0] == f"root {federation.settings.root}"
        assert lines[3] == f"│ signed by aggregator {trust.aggregator.public.id[:12]}"
        (tmp_path / "out" / PROVENANCE_FILE).write_bytes(b"{}")
        assert isinstance(error_of(tmp_path / "out"), SignatureError)


def test_a_folder_of_a_later_release_says_where_the_rest_is(federation: Federation, tmp_path: Path) -> None:
    fetch(StoreGateway(federation), tmp_path / "out")
    lines = run(tmp_path / "out").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("release ")] == ["3"]
    assert lines[-1] == "… 3 releases before: ask the federation"
    assert lines[0] == "a release in a folder; it is not signed"
    assert "│ unsigned" in lines
    error = error_of(tmp_path / "out", "--release", 2)
    assert isinstance(error, UserInputError)
    assert "holds release 3, not 2" in str(error)
