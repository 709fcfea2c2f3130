"""Changes that several operators sign, each on a machine of their own."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from operators import Person, Place, mode

from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.trust.home import write_private_key
from coldfuse.trust.keys import PrivateKey


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


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


def test_nobody_is_refused_while_the_next_aggregator_does_not_run_yet(place: Place) -> None:
    """The channels are signed anew with the root that replaces the keys which have signed them."""
    ada, bob, root = place.init(), place.person("bob"), ("--root", place.fingerprint())
    signer = ada.folder(place.fingerprint()).read_key("operator")
    federation = open_federation(LocalStore(place.store))
    federation.pointers.write("stable", federation.channel("latest"), None, signer)
    bob.succeed("fetch", place.store, "--out", place.path / "one", *root)
    for role in ("aggregator", "operator", "aggregator"):
        ada.succeed("keys", "rotate", place.store, role)
        for channel in ("latest", "stable"):
            bob.succeed("fetch", place.store, "--out", place.path / channel, "--channel", channel)


def test_another_operator_who_publishes_the_replacement_signs_the_channels(place: Place, three) -> None:
    ada, bob, eve = three
    eve.succeed("fetch", place.store, "--out", place.path / "out")
    ada.succeed("keys", "rotate", place.store, "aggregator")
    bob.succeed("keys", "sign", place.store, proposals(bob, place)[0]["id"])
    eve.succeed("fetch", place.store, "--out", place.path / "out")


def test_a_root_that_has_expired_is_renewed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ada, now_s = place.init(), time.time()
    expires_at_s = ada.root(place.store)["expires_at_s"]
    monkeypatch.setattr("time.time", lambda: now_s + 800 * 86400)
    assert "expired already" not in ada.succeed("keys", "renew", place.store, "--days", 20).stdout
    assert ada.root(place.store)["expires_at_s"] == pytest.approx(now_s + 820 * 86400)
    assert ada.root(place.store)["expires_at_s"] > expires_at_s  # type: ignore[operator]
