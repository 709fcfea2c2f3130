"""Members as operators see them: enrolled, renewed, listed and revoked."""

from __future__ import annotations

from pathlib import Path

import pytest
from operators import Person, Place, mode
from tiny_rounds import make_federation, make_model
from typer.testing import Result

from coldfuse.trust.tokens import PREFIX, Token


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_token_is_all_that_goes_to_standard_output(place: Place) -> None:
    ada = place.init()
    result = ada.succeed("enroll", place.store, "Klinik Köln", "--role", "evaluator", "--join-by", "90m")
    token = Token.parse(result.stdout)
    assert result.stdout == f"{token.text}\n"
    assert (token.name, token.role, token.federation) == ("klinik-koln-a41d4b1e67", "evaluator", place.fingerprint())
    assert "a secret for one use" in result.stderr
    assert PREFIX not in result.stderr
    assert ada.succeed("enroll", place.store, "bob", "--out", "-").stdout.startswith(PREFIX)
    assert token.text not in repr(token)


def test_a_token_file_is_for_its_owner_alone_and_never_overwrites(place: Place) -> None:
    ada, out = place.init(), place.path / "alice.token"
    result = ada.succeed("enroll", place.store, "alice", "--out", out)
    assert (result.stdout, mode(out)) == ("", 0o600)
    assert "give a new file" in ada.fail("enroll", place.store, "bob", "--out", out)
    assert list(ada.members(place.store)) == ["alice"]
    before = ada.members(place.store)
    assert "nobody was invited" in ada.fail("enroll", place.store, "alice", "--out", place.path / "nowhere" / "token")
    assert "longer than the membership" in ada.fail("enroll", place.store, "bob", "--join-by", "9999999d", "--out", "x")
    assert ada.members(place.store) == before
    unused = place.path / "bob.token"
    assert "private key" in place.person("eve").fail(
        "enroll", place.store, "bob", "--out", unused, "--root", place.fingerprint()
    )
    assert not unused.exists()


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
    ada.succeed("revoke", place.store, "alice")  # without a word on it, what was said before is not taken back
    assert {**ada.members(place.store)["alice"]["revoked"], "at_s": revoked["at_s"]} == revoked
    for wrong, said in (
        ("2999-01-01", "in the future"), ("soon", "expected a time such as"), ("0001-01-01", "expected a time such as"),
        ("1960-01-01", "before 1970"), ("99999999999d", "before 1970"),
    ):  # fmt: skip
        assert said in ada.fail("revoke", place.store, "alice", "--since", wrong)
    assert "is no member" in ada.fail("revoke", place.store, "mallory")
    alice.succeed("join", "-", stdin=enroll(ada, place, "alice").stdout)
    assert ada.members(place.store)["alice"]["revoked"] is None


def test_an_operator_signs_no_older_list_again_than_they_have_made(place: Place) -> None:
    ada = place.init()
    enroll(ada, place, "mallory")
    ada.succeed("revoke", place.store, "mallory")
    newest = max((place.store / "members").glob("*.json"))
    kept = newest.read_bytes()
    newest.unlink()  # somebody puts the store back to before that
    for words in (("members",), ("enroll", "bob"), ("revoke", "mallory"), ("keys", "show")):
        group = words if words[0] == "keys" else words[:1]
        said = ada.fail(*group, place.store, *words[len(group):])  # fmt: skip
        assert "RollbackError: members 3: was seen before" in said
        assert "put the newer one back" in said
    assert not newest.exists()
    newest.write_bytes(kept)
    assert ada.members(place.store)["mallory"]["revoked"] is not None
    newest.unlink()
    ada.folder(place.fingerprint()).path.joinpath("seen.json").unlink()  # it is lost for good
    assert ada.members(place.store)["mallory"]["revoked"] is None


@pytest.mark.parametrize("name", ["operator", "aggregator", "root", "model"])
def test_nobody_is_called_as_a_role_is(place: Place, name: str) -> None:
    assert "is the name of a role" in place.init().fail("enroll", place.store, name)


def test_a_federation_without_a_root_has_no_members(place: Place) -> None:
    make_federation(place.path, make_model())
    for command in (("enroll", "STORE", "x"), ("members", "STORE"), ("keys", "show", "STORE")):
        words = [word.replace("STORE", str(place.path / "store")) for word in command]
        assert "has no root" in place.person("ada").fail(*words)


def test_a_token_leads_somewhere(place: Place) -> None:
    ada = place.init()
    for address in ("gateway.example.org", "nowhere", "127.0.0.1:port", "alice", "", " "):
        assert "expected HOST:PORT" in ada.fail("enroll", place.store, "alice", "--address", address)
    assert ada.members(place.store) == {}
