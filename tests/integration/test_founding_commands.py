"""From `coldfuse init` on: root and keys, made once, whatever is killed; and adopted federations."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty_store import Fault, FaultyStore
from operators import Person, Place, mode
from tiny_rounds import make_federation, make_model

from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.trust.home import write_private_key
from coldfuse.trust.keys import PrivateKey


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_init_makes_root_and_keys_without_questions(place: Place) -> None:
    ada = place.person("ada")
    said = ada.succeed("init", place.store, "--base", place.base()).stdout.splitlines()
    fingerprint = place.fingerprint()
    folder = ada.folder(fingerprint)
    assert f"fingerprint {fingerprint}" in said
    assert sum(str(folder.keys) in line for line in said) == 1
    assert sorted(path.name for path in folder.keys.iterdir()) == ["aggregator.pem", "model.pem", "operator.pem"]
    assert {mode(path) for path in folder.keys.iterdir()} == {0o600}
    assert {mode(folder.path), mode(folder.keys)} == {0o700}
    assert folder.pinned_root() == (place.store / "root" / "1.json").read_bytes()
    federation = open_federation(LocalStore(place.store), fingerprint=fingerprint)
    assert federation.settings.root == federation.settings.federation == fingerprint
    root = ada.root(place.store)
    assert (root["is_open"], root["version"]) == (False, 1)


STEPS = ["root/", "objects/", "federation.json", "settings/"]


@pytest.mark.parametrize("step", STEPS)
def test_init_that_was_killed_is_finished_with_the_same_keys(
    place: Place, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, store = place.person("ada"), FaultyStore(LocalStore(place.store))
    for operation in ("put_if_absent", "compare_and_swap"):
        store.arm(operation, Fault.ERROR, prefix=step)
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.cli.init.open_store", lambda _: store)
        assert "injected error" in ada.fail("init", place.store, "--base", place.base())
    assert store.num_fired == 1
    assert_finishes(ada, place)


def test_init_that_was_killed_at_its_last_word_says_it_when_it_is_run_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = place.person("ada")
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.cli.init.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        ada.run("init", place.store, "--base", place.base())
    assert_finishes(ada, place)
    assert "holds a federation already" in ada.fail("init", place.store, "--base", place.base())


def assert_finishes(ada: Person, place: Place) -> None:
    keys = {path: path.read_bytes() for path in ada.home.glob("*/keys/*.pem")}
    assert len(keys) == 3
    said = ada.succeed("init", place.store, "--base", place.base()).stdout
    assert f"fingerprint {place.fingerprint()}\n" in said
    assert {path: path.read_bytes() for path in ada.home.glob("*/keys/*.pem")} == keys
    assert not list(ada.home.glob("*/founding.json"))
    assert ada.root(place.store)["fingerprint"] == place.fingerprint()


def test_what_was_begun_closed_is_not_finished_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = place.person("ada")
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.cli.init.create_federation", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        ada.run("init", place.store, "--base", place.base())
    assert "finish it without --open" in ada.fail("init", place.store, "--base", place.base(), "--open")


def test_an_open_federation_says_so(place: Place) -> None:
    ada = place.person("ada")
    said = ada.succeed("init", place.store, "--base", place.base(), "--open").stdout
    assert "any key may contribute, a name belongs to the first key that used it" in said
    assert ada.root(place.store)["is_open"] is True


@pytest.mark.parametrize("form", ["file", "file2:"])
def test_init_takes_an_operators_key_that_is_there(place: Place, form: str) -> None:
    key = place.path / "own.pem"
    write_private_key(key, PrivateKey.generate())
    ada = place.init("--key", key if form == "file" else f"file2:{key}")
    folder = ada.folder(place.fingerprint())
    assert not folder.key_path("operator").exists()
    assert key.read_text().splitlines()[1] not in (folder.keys / "operator.json").read_text()
    ada.succeed("enroll", place.store, "alice", "--out", place.path / "token")  # found again by itself
    key.unlink()
    assert "own.pem" in ada.fail("enroll", place.store, "bob")


def test_systemds_credentials_are_the_keys_where_there_are_some(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = place.path / "credentials"
    for role, key in (("operator", PrivateKey.generate()), ("aggregator", PrivateKey.generate())):
        write_private_key(credentials / f"coldfuse-{role}", key)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    ada = place.init()
    assert [path.name for path in ada.folder(place.fingerprint()).keys.iterdir()] == ["model.pem"]
    ada.succeed("enroll", place.store, "alice", "--out", place.path / "token")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "there is no private key of 'operator' here" in ada.fail("enroll", place.store, "bob")


# Adoption


def test_a_federation_of_before_is_adopted_with_its_history(place: Place) -> None:
    ada, before = place.person("ada"), make_federation(place.path, make_model()).latest()
    ada.succeed("init", place.store, "--adopt")
    said = ada.fail("init", place.store, "--adopt")
    assert "has a root already" in said
    federation = open_federation(LocalStore(place.store), fingerprint=place.fingerprint())
    assert federation.latest() == before
    assert federation.settings.adopted is not None
    assert federation.settings.adopted.release == 0
    place.person("alice").succeed("join", "-", stdin=ada.succeed("enroll", place.store, "alice").stdout)
    assert list(ada.members(place.store)) == ["alice"]
    assert ada.run("init", place.store, "--adopt", "--base", "x").exit_code == 2


@pytest.mark.parametrize("step", ["root/", "federation.json", "channels/"])
def test_an_adoption_that_was_killed_is_finished_with_the_same_keys(
    place: Place, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_federation(place.path, make_model())
    ada, store = place.person("ada"), FaultyStore(LocalStore(place.store))
    for operation in ("put_if_absent", "compare_and_swap"):
        store.arm(operation, Fault.ERROR, prefix=step)
    with monkeypatch.context() as patch:
        patch.setattr("coldfuse.cli.adopting.open_store", lambda _: store)
        assert "injected error" in ada.fail("init", place.store, "--adopt")
    keys = {path: path.read_bytes() for path in ada.home.glob("*/keys/*.pem")}
    ada.succeed("init", place.store, "--adopt")
    assert {path: path.read_bytes() for path in ada.home.glob("*/keys/*.pem")} == keys
    assert ada.root(place.store)["fingerprint"] == place.fingerprint()
