"""Taking part with a token, and replacing one's key: at a store and at a gateway, killed anywhere, and refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificates import Authority, files
from operators import Person, Place, mode

from coldfuse.api import joining
from coldfuse.registry.federation import open_federation
from coldfuse.storage import LocalStore
from coldfuse.transport.server import GatewaySettings, serve_gateway
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.tokens import Token

NUMBERS = itertools.count()


@dataclass(frozen=True)
class Invited:
    """A federation, its operator, and where members find it."""

    place: Place
    ada: Person
    address: str

    def token(self, name: str, *options: object) -> str:
        return self.ada.succeed("enroll", self.place.store, name, "--address", self.address, *options).stdout

    def folder(self, person: Person) -> FederationFolder:
        return person.folder(self.place.fingerprint())

    def key(self, name: str) -> object:
        return self.ada.members(self.place.store)[name]["key"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Person, str]]:
    place = Place(tmp_path_factory.mktemp("federation"))
    ada = place.init()
    with serve_gateway(open_federation(LocalStore(place.store))) as gateway:
        yield place, ada, gateway.address


@pytest.fixture(params=["gateway", "store"])
def invited(made: tuple[Place, Person, str], request: pytest.FixtureRequest) -> Invited:
    place, ada, address = made
    return Invited(place, ada, address if request.param == "gateway" else str(place.store))


@pytest.fixture
def alice(tmp_path: Path) -> Person:
    return Person(tmp_path / "alice")


@pytest.fixture
def name() -> str:
    """Return a name that no other test has: they share a federation."""
    return f"alice-{next(NUMBERS)}"


def test_a_token_becomes_a_key_of_ones_own(invited: Invited, alice: Person, name: str) -> None:
    (alice.home.parent / "token").write_text(invited.token(name))
    said = alice.succeed("join", alice.home.parent / "token").stdout
    folder = invited.folder(alice)
    assert f"fingerprint {folder.fingerprint}\n" in said
    assert f"next: coldfuse contribute {invited.address}" in said
    assert (mode(folder.key_path(name)), mode(folder.path)) == (0o600, 0o700)
    assert folder.read_key(name).public.id == invited.key(name)
    [membership] = folder.memberships()
    assert (membership.name, membership.address) == (name, invited.address)
    assert folder.pinned_root() is not None


@pytest.mark.parametrize("invited", ["gateway"], indirect=True)
@pytest.mark.parametrize("step", ["sent", "settled", "noted"])
def test_joining_that_was_killed_is_finished_with_the_same_key(
    invited: Invited, alice: Person, name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = invited.token(name)
    killed = {
        "sent": (joining, "_settle"),  # the gateway has the statement, and the answer was not heard
        "settled": (FederationFolder, "keep_membership"),
        "noted": (joining, "_keep"),  # the key is there, and nobody has heard of it
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(*killed, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert alice.run("join", "-", stdin=token).exit_code != 0
    keys = {path.read_bytes() for path in invited.folder(alice).keys.iterdir()}
    alice.succeed("join", "-", stdin=token)
    alice.succeed("join", "-", stdin=token)  # nothing is left to do
    assert {path.read_bytes() for path in invited.folder(alice).keys.iterdir()} == keys
    assert invited.folder(alice).read_key(name).public.id == invited.key(name)


def test_a_token_is_for_one_key_alone(invited: Invited, alice: Person, tmp_path: Path, name: str) -> None:
    token, mallory = invited.token(name), Person(tmp_path / "mallory")
    alice.succeed("join", "-", stdin=token)
    said = mallory.fail("join", "-", stdin=token)
    assert "this name belongs to the key" in said
    assert invited.folder(alice).read_key(name).public.id == invited.key(name)
    assert not invited.folder(mallory).memberships()


def test_who_joins_again_after_the_token_has_expired_is_told_so_only_if_it_is_new(
    invited: Invited, alice: Person, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = invited.token(name, "--join-by", "2h")
    alice.succeed("join", "-", stdin=token)
    monkeypatch.setattr("coldfuse.api.joining.time.time", lambda: Token.parse(token).join_by_s + 1)
    alice.succeed("join", "-", stdin=token)
    assert "the invitation has expired" in Person(tmp_path / "late").fail("join", "-", stdin=token)


def test_a_token_that_is_none_is_one_line(invited: Invited, alice: Person, tmp_path: Path, name: str) -> None:
    token = invited.token(name)
    (tmp_path / "empty").write_text("")
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 64)
    wrong = {
        token[:-40]: "damaged, or not a whole one",
        token[:40] + ("A" if token[40] != "A" else "B") + token[41:]: "damaged, or not a whole one",
        "hello": "this is no invitation",
        token.strip() * 30: "this is no invitation",
    }
    for given, said in wrong.items():
        assert said in alice.fail("join", "-", stdin=given)
    for file, said in (("empty", "no invitation"), ("bytes", "no invitation"), ("nowhere", "cannot be read")):
        assert said in alice.fail("join", tmp_path / file)
    assert "list of processes" in alice.fail("join", token.strip())
    assert not alice.home.exists()


def test_another_federation_than_the_tokens_is_refused(
    invited: Invited, alice: Person, tmp_path: Path, request
) -> None:
    other = Place(tmp_path / "other")
    stranger = other.init(name="stranger")
    token = stranger.succeed("enroll", other.store, "alice", "--address", invited.address).stdout
    assert alice.fail("join", "-", stdin=token).startswith("SignatureError")
    assert not alice.home.exists()


def test_a_key_is_followed_by_one_that_it_has_signed(invited: Invited, alice: Person, name: str) -> None:
    alice.succeed("join", "-", stdin=invited.token(name))
    before = invited.key(name)
    alice.succeed("rotate", invited.address)
    assert invited.key(name) != before
    assert invited.folder(alice).read_key(name).public.id == invited.key(name)
    alice.succeed("rotate", invited.address, "--name", name)
    assert invited.ada.members(invited.place.store)[name]["num_keys"] == 3
    assert [path.name for path in invited.folder(alice).keys.iterdir()] == [f"{name}.pem"]


@pytest.mark.parametrize("invited", ["gateway"], indirect=True)
@pytest.mark.parametrize("step", ["sent", "settled", "noted"])
def test_rotating_that_was_killed_is_finished_with_the_same_key(
    invited: Invited, alice: Person, name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.succeed("join", "-", stdin=invited.token(name))
    killed = {
        "sent": (joining, "_settle"),
        "settled": (FederationFolder, "read_key"),
        "noted": (joining, "_keep"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(*killed, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert alice.run("rotate", invited.address).exit_code != 0
    alice.succeed("rotate", invited.address)
    folder = invited.folder(alice)
    assert folder.read_key(name).public.id == invited.key(name)
    assert [path.name for path in folder.keys.iterdir()] == [f"{name}.pem"]
    assert invited.ada.members(invited.place.store)[name]["num_keys"] == (3 if step == "settled" else 2)


def test_who_is_no_member_here_rotates_nothing(invited: Invited, alice: Person) -> None:
    assert "join it first" in alice.fail("rotate", invited.address)


def test_what_comes_next_is_said_with_the_way_that_led_there(
    made: tuple[Place, Person, str], alice: Person, name: str, tmp_path: Path
) -> None:
    place, ada, _ = made
    authority = Authority(tmp_path / "an authority")
    federation = open_federation(LocalStore(place.store))
    with serve_gateway(federation, GatewaySettings(tls=files(cert=authority.folder / "gateway.pem"))) as gateway:
        token = Invited(place, ada, gateway.address).token(name)
        (alice.home.parent / "token").write_text(token)
        said = alice.succeed("join", alice.home.parent / "token", "--tls-ca", authority.ca).stdout
    assert f"next: coldfuse contribute {gateway.address} --data FILE --tls-ca '{authority.ca}'" in said


@pytest.mark.parametrize("invited", ["gateway"], indirect=True)
def test_who_is_several_here_is_told_to_say_which(invited: Invited, alice: Person, name: str) -> None:
    token = alice.home.parent / "token"
    for who, role in ((name, "contributor"), (f"{name}-eva", "evaluator")):
        token.write_text(invited.token(who, "--role", role))
        said = alice.succeed("join", token).stdout
    assert f"--suite NAME=TRAIN,TEST --name {name}-eva" in said
