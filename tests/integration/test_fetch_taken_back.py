"""Who fetches a release by its number is told that it was taken back: by the API, the command and its JSON."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from rooted_rounds import SignedFederation, make_signed_federation

import coldfuse
from coldfuse.cli.consumer import fetch
from coldfuse.cli.options.consumer import FetchOptions
from coldfuse.cli.options.shared import Connection
from coldfuse.consumer import fetch as fetch_release
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.registry.federation import open_federation
from coldfuse.registry.moving import roll_back
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> SignedFederation:
    """A federation with two releases, rolled back to the first, and then to the base."""
    made = make_signed_federation(tmp_path_factory.mktemp("federation"), rounds=2, method="mean")
    for number, reason in ((1, "worse"), (0, "worse still")):
        there = open_federation(LocalStore(made.store.url))
        roll_back(there, number, reason=reason, by="ada", signer=made.keys.operators[0])  # type: ignore[arg-type]
    return made


def test_the_api_warns_and_returns_what_took_it_back(twice: SignedFederation, tmp_path: Path) -> None:
    with coldfuse.connect(twice.store.url, root=twice.keys.fingerprint) as federation:
        with pytest.warns(UserWarning, match=r"release 2 was rolled back, to release 1, .*\(worse\); .* release 0 now"):
            found = federation.fetch(tmp_path / "two", release=2)
        assert (found.release, found.taken_back.reason, found.taken_back.latest) == (2, "worse", 0)  # type: ignore[union-attr]
        assert "was rolled back" in repr(found)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert federation.fetch(tmp_path / "zero", release=0).taken_back is None
            assert federation.fetch(tmp_path / "latest").taken_back is None


def test_the_command_says_it_in_one_line_beside_what_it_wrote(
    twice: SignedFederation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = Connection(root=twice.keys.fingerprint)
    fetch(FetchOptions(source=twice.store.url, out=tmp_path / "one", release=1, connection=connection, as_json=True))
    out, said = capsys.readouterr()
    assert said.count("\n") == 1
    assert said.startswith("coldfuse: release 1 was rolled back, to release 0, on 20")
    found = json.loads(out)
    assert (found["release"], found["taken_back"]["reason"], found["taken_back"]["latest"]) == (1, "worse still", 0)
    assert found["taken_back"]["is_certain"] is True
    assert (tmp_path / "one" / "config.json").is_file()
    fetch(FetchOptions(source=twice.store.url, out=tmp_path / "zero", release=0, connection=connection, as_json=True))
    out, said = capsys.readouterr()
    assert (said, json.loads(out)["taken_back"]) == ("", None)


def test_a_gateway_hands_out_the_older_step(twice: SignedFederation, tmp_path: Path) -> None:
    with serve_gateway(twice.federation) as gateway:
        client = GatewayClient(gateway.address, identity=twice.identities["ada"])
        with TrustedGateway(client, anchor=twice.keys.fingerprint, identity=twice.identities["ada"]) as trusted:
            found = fetch_release(trusted, tmp_path / "out", which=2).taken_back
        assert found is not None
        assert (found.reason, found.is_certain) == ("worse", True)
