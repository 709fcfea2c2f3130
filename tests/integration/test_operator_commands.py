"""Operators' commands: root and keys from `init` on, changes that several sign, and members."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from faulty_store import Fault, FaultyStore
from operators import Person, Place
from tiny_rounds import make_federation, make_model
from typer.testing import Result

from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.trust.home import write_private_key
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.tokens import PREFIX, Token


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


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


STEPS = ["root/", "members/", "objects/", "releases/", "channels/", "federation.json", "settings/"]


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


@pytest.mark.parametrize("step", ["root/", "members/", "federation.json", "channels/"])
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


# Several operators


@pytest.fixture
def three(place: Place) -> tuple[Person, Person, Person]:
    """Three operators on machines of their own; two of them must sign what changes the root."""
    ada, bob, eve = place.init(), place.person("bob"), place.person("eve")
    root = ("--root", place.fingerprint())
    for other, name in ((bob, "bob"), (eve, "eve")):
        public = other.succeed("keys", "export", place.store, "operator", "--new", *root).stdout
        (place.path / f"{name}.pub").write_text(public)
    keys = (place.path / "bob.pub", place.path / "eve.pub")
    ada.succeed("keys", "add", place.store, "root", *keys)
    ada.succeed("keys", "add", place.store, "operator", *keys)
    ada.succeed("keys", "threshold", place.store, "root", 2)
    bob.succeed("keys", "sign", place.store, proposals(bob, place)[0]["id"])
    return ada, bob, eve


def proposals(person: Person, place: Place) -> list[dict[str, str]]:
    return list(json.loads(person.succeed("keys", "sign", place.store, "--json").stdout))


def thresholds(person: Person, place: Place) -> dict[str, tuple[int, int]]:
    roles = person.root(place.store)["roles"]
    return {role: (held["threshold"], len(held["keys"])) for role, held in roles.items()}  # type: ignore[attr-defined]


def test_a_threshold_of_two_of_three_holds_for_the_change_that_brings_it(place: Place, three) -> None:
    ada, bob, eve = three
    for person in three:
        assert thresholds(person, place)["root"] == (2, 3)
        assert proposals(person, place) == []
    version = ada.root(place.store)["version"]
    result = ada.succeed("keys", "renew", place.store, "--days", 30)
    assert result.stdout == ""
    [waiting] = proposals(eve, place)
    assert "1 more of" in waiting["lacks"][0]
    assert re.search(rf"coldfuse keys sign \S+ {waiting['id']}", result.stderr)
    assert ada.root(place.store)["version"] == version
    ada.succeed("keys", "sign", place.store, waiting["id"])  # the same one twice is one
    assert ada.root(place.store)["version"] == version
    eve.succeed("keys", "sign", place.store, waiting["id"])
    assert bob.root(place.store)["version"] == version + 1  # type: ignore[operator]
    assert not list(place.store.glob("proposals/**/*.json"))


def test_the_root_is_rotated_by_two_of_three_while_one_key_is_lost(place: Place, three) -> None:
    ada, bob, eve = three
    (ada.folder(place.fingerprint()).key_path("operator")).unlink()  # stolen, say
    lost = ada.succeed("keys", "show", place.store, "--json").stdout
    [gone] = set(ids(json.loads(lost), "root")) - {own_id(bob, place), own_id(eve, place)}
    bob.succeed("keys", "rotate", place.store, "operator")
    eve.succeed("keys", "sign", place.store, proposals(eve, place)[0]["id"])
    bob.succeed("members", place.store)  # the new key is put into its place by whatever comes next
    bob.succeed("keys", "remove", place.store, "root", gone[:10])
    eve.succeed("keys", "sign", place.store, proposals(eve, place)[0]["id"])
    bob.succeed("keys", "remove", place.store, "operator", gone[:10])
    eve.succeed("keys", "sign", place.store, proposals(eve, place)[0]["id"])
    assert set(ids(bob.root(place.store), "root")) == {own_id(bob, place), own_id(eve, place)}
    eve.succeed("enroll", place.store, "alice", "--out", place.path / "token")
    assert list(bob.members(place.store)) == ["alice"]


def ids(root: dict, role: str) -> list[str]:
    return [key["id"] for key in root["roles"][role]["keys"]]


def own_id(person: Person, place: Place) -> str:
    return person.folder(place.fingerprint()).read_key("operator").public.id


def test_members_and_rules_wait_for_two_operators_where_two_must_sign(place: Place, three) -> None:
    ada, bob, eve = three
    ada.succeed("keys", "threshold", place.store, "operator", 2)
    eve.succeed("keys", "sign", place.store, proposals(eve, place)[0]["id"])
    assert thresholds(bob, place)["operator"] == (2, 3)
    ada.succeed("enroll", place.store, "alice", "--out", place.path / "token")
    assert bob.members(place.store) == {}
    assert "nobody has invited this member" in place.person("alice").fail("join", place.path / "token")
    [invitation] = proposals(bob, place)
    assert invitation["changes"] == ["alice is invited as contributor"]
    bob.succeed("keys", "sign", place.store, invitation["id"])
    place.person("alice").succeed("join", place.path / "token")
    assert ada.succeed("set", place.store, "--quorum", 7).stdout == ""
    [rule] = proposals(eve, place)
    assert rule["changes"] == ["quorum 2 → 7"]
    eve.succeed("keys", "sign", place.store, rule["id"])
    assert open_federation(LocalStore(place.store)).settings.rules.quorum == 7


def test_what_waits_and_was_overtaken_is_no_proposal_any_more(place: Place, three) -> None:
    ada, bob, _ = three
    ada.succeed("keys", "renew", place.store, "--days", 10)
    bob.succeed("keys", "renew", place.store, "--days", 20)
    first, second = proposals(ada, place)
    bob.succeed("keys", "sign", place.store, first["id"] if "10" in str(first["changes"]) else second["id"])
    ada.run("keys", "sign", place.store, second["id"])
    assert proposals(ada, place) == []


def test_a_proposal_by_who_is_no_operator_is_not_seen(place: Place, three) -> None:
    ada, _, _ = three
    ada.succeed("keys", "renew", place.store, "--days", 10)
    [genuine] = place.store.glob("proposals/*/*.json")
    renamed = genuine.parent.parent / ("0" * 16)
    renamed.mkdir()
    (renamed / genuine.name).write_bytes(genuine.read_bytes())  # not the id of what it holds
    envelope = json.loads(genuine.read_text())
    genuine.write_text(json.dumps(envelope | {"signatures": []}))  # nobody's
    (genuine.parent / f"0-root-{'a' * 64}.json").write_text("no JSON")
    assert proposals(ada, place) == []
    assert "is no proposal that can be signed; there is none" in ada.fail("keys", "sign", place.store, "0000")


def test_a_key_that_signs_nothing_is_told_which_would(place: Place) -> None:
    ada = place.init()
    other = place.path / "other.pem"
    write_private_key(other, PrivateKey.generate())
    said = ada.fail("enroll", place.store, "alice", "--key", other)
    assert own_id(ada, place)[:12] in said
    assert "do not sign for operator" in said
    stranger = place.person("stranger").fail("enroll", place.store, "alice")
    assert stranger.startswith("UnknownRootError")


def test_an_aggregators_key_is_replaced(place: Place) -> None:
    ada = place.init()
    keys = ada.folder(place.fingerprint())
    before = keys.read_key("aggregator").public.id
    ada.succeed("keys", "rotate", place.store, "aggregator")
    [now] = ids(ada.root(place.store), "aggregator")
    assert now == keys.read_key("aggregator").public.id != before
    assert (keys.keys / "aggregator.pem.old").exists()
    assert mode(keys.key_path("aggregator")) == 0o600


# Members


def test_the_token_is_all_that_goes_to_standard_output(place: Place) -> None:
    ada = place.init()
    result = ada.succeed("enroll", place.store, "Klinik Köln", "--role", "evaluator", "--join-by", "90m")
    token = Token.parse(result.stdout)
    assert result.stdout == f"{token.text}\n"
    assert (token.name, token.role, token.federation) == ("klinik-koln-a41d4b1e67", "evaluator", place.fingerprint())
    assert "a secret for one use" in result.stderr
    assert PREFIX not in result.stderr
    assert token.text not in repr(token)


def test_a_token_file_is_for_its_owner_alone_and_never_overwrites(place: Place) -> None:
    ada, out = place.init(), place.path / "alice.token"
    result = ada.succeed("enroll", place.store, "alice", "--out", out)
    assert (result.stdout, mode(out)) == ("", 0o600)
    assert "give a new file" in ada.fail("enroll", place.store, "bob", "--out", out)
    assert list(ada.members(place.store)) == ["alice"]


def enroll(person: Person, place: Place, name: str, *options: object) -> Result:
    return person.succeed("enroll", place.store, name, *options)


def test_enrolling_again_renews_who_has_joined_and_invites_anew_who_has_not(place: Place) -> None:
    ada, alice = place.init(), place.person("alice")
    first = enroll(ada, place, "alice", "--days", 10, "--quota", "1GiB")
    second = enroll(ada, place, "alice")
    assert "worth nothing any more" in second.stderr
    assert "NotAllowedError" in alice.fail("join", "-", stdin=first.stdout)
    alice.succeed("join", "-", stdin=second.stdout)
    before = ada.members(place.store)["alice"]
    renewed = enroll(ada, place, "alice", "--days", 100, "--role", "evaluator")
    after = ada.members(place.store)["alice"]
    assert renewed.stdout == ""
    assert after["key"] == before["key"]
    assert after["valid_until_s"] - before["valid_until_s"] < -200 * 86400
    assert (after["role"], after["quota"]["contribution_bytes"]) == ("evaluator", 1 << 30)
    again = enroll(ada, place, "alice", "--new-key")
    alice.succeed("join", "-", stdin=again.stdout)
    assert ada.members(place.store)["alice"]["key"] not in (None, before["key"])


def test_who_is_revoked_is_listed_with_the_reason_and_may_be_invited_anew(place: Place) -> None:
    ada, alice = place.init(), place.person("alice")
    alice.succeed("join", "-", stdin=enroll(ada, place, "alice").stdout)
    ada.succeed("revoke", place.store, "alice", "--since", "3d", "--reason", "key\nstolen")
    revoked = ada.members(place.store)["alice"]["revoked"]
    assert revoked["at_s"] - revoked["since_s"] == pytest.approx(3 * 86400)
    assert "key?stolen" in ada.succeed("members", place.store).stdout
    assert "revoked" in alice.fail("rotate", place.store)
    for wrong, said in (("2999-01-01", "in the future"), ("soon", "expected a time such as")):
        assert said in ada.fail("revoke", place.store, "alice", "--since", wrong)
    assert "is no member" in ada.fail("revoke", place.store, "mallory")
    alice.succeed("join", "-", stdin=enroll(ada, place, "alice").stdout)
    assert ada.members(place.store)["alice"]["revoked"] is None


@pytest.mark.parametrize("name", ["operator", "aggregator", "root", "model"])
def test_nobody_is_called_as_a_role_is(place: Place, name: str) -> None:
    assert "is the name of a role" in place.init().fail("enroll", place.store, name)


def test_a_federation_without_a_root_has_no_members(place: Place) -> None:
    make_federation(place.path, make_model())
    for command in (("enroll", "STORE", "x"), ("members", "STORE"), ("keys", "show", "STORE")):
        words = [word.replace("STORE", str(place.path / "store")) for word in command]
        assert "has no root" in place.person("ada").fail(*words)
