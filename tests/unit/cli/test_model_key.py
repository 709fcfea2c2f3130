"""`coldfuse fetch --model-key`: what other tools verify a folder with, from the root and not from the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from federation_keys import TinyTrust
from tiny_rounds import make_federation, make_model, write_model
from typer.testing import CliRunner

from coldfuse.cli.main import app
from coldfuse.errors import SignatureError, UserInputError
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation
from coldfuse.registry.signing import whole_digests
from coldfuse.storage import LocalStore
from coldfuse.tensors.checkpoint import open_checkpoint
from coldfuse.trust.founding import FounderKeys
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.model_signature import model_signature_key, sign_files
from coldfuse.trust.provenance import statement_key
from coldfuse.trust.signed_folder import verify_folder

KEYS = TinyTrust()


@pytest.fixture
def rooted(tmp_path: Path) -> Federation:
    trust = FounderKeys(operators=[KEYS.operator], aggregator=KEYS.aggregator, model=KEYS.model)
    base, rules = write_model(tmp_path / "base", make_model()), {"quorum": 2, "deadline_s": 60.0}
    return create_federation(
        LocalStore(tmp_path / "store"), name="ward", base=base, origin="base", method="mean", rules=rules, trust=trust
    )


def fetch(source: str, *arguments: object) -> str | BaseException:
    result = CliRunner().invoke(app, ["fetch", source, *map(str, arguments)])
    return result.exception if result.exception is not None else result.stdout


def test_the_key_and_the_signatures_come_with_the_release(rooted: Federation, tmp_path: Path) -> None:
    out, key = tmp_path / "out", tmp_path / "model.pem"
    said = fetch(rooted.store.url, "--root", rooted.settings.root, "--out", out, "--model-key", key)
    assert isinstance(said, str), said
    assert "signed: model.sig, provenance.json" in said.splitlines()
    assert key.read_text() == KEYS.model.public.pem
    verify_folder(out, [KEYS.model.public])
    facts = json.loads(str(fetch(rooted.store.url, "--out", out, "--json")))
    assert facts["signed"] == ["model.sig", "provenance.json"]


def test_a_key_that_the_root_does_not_name_is_never_written(rooted: Federation, tmp_path: Path) -> None:
    other = PrivateKey.generate_p256()
    digests = whole_digests(open_checkpoint(tmp_path / "base"))
    forged = sign_files(digests, name="ward/0", signer=other)
    key = model_signature_key(0)
    rooted.store.compare_and_swap(key, forged, etag=rooted.store.get_with_etag(key)[1])
    arguments = ("--root", rooted.settings.root, "--out", tmp_path / "out", "--model-key", tmp_path / "model.pem")
    error = fetch(rooted.store.url, *arguments)
    assert isinstance(error, SignatureError), error
    assert not (tmp_path / "model.pem").exists()


@pytest.mark.parametrize("name", ["model.pem", "below/model.pem", "../out/model.pem"])
def test_it_is_not_written_into_the_signed_folder(rooted: Federation, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    error = fetch(rooted.store.url, "--root", rooted.settings.root, "--out", out, "--model-key", out / name)
    assert isinstance(error, UserInputError), error
    assert "lies in the model's folder" in str(error)
    assert not out.exists()


def test_a_release_that_has_lost_its_signatures_comes_with_a_warning(rooted: Federation, tmp_path: Path) -> None:
    words = ["fetch", rooted.store.url, "--root", str(rooted.settings.root), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).stderr == ""
    for key in (model_signature_key(0), statement_key(0)):
        rooted.store.delete(key)
    result = CliRunner().invoke(app, words)
    assert "comes without provenance.json" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("digest ")
    assert not (tmp_path / "out" / "model.sig").exists()


def test_without_a_root_there_is_no_such_key(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, make_model())
    error = fetch(federation.store.url, "--out", tmp_path / "out", "--model-key", tmp_path / "model.pem")
    assert isinstance(error, UserInputError), error
    assert "has no root" in str(error)
    said = str(fetch(federation.store.url, "--out", tmp_path / "out"))
    assert "signed:" not in said
