"""Members over time, with real gateways: joined, rotated, robbed, renewed, expired and revoked, while they take part.

What operators and members do are the commands; the aggregator is led step by step.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from commands import Process, coldfuse, run_coldfuse, wait_until
from rooted import RootedFederation, make_keys
from tiny_rounds import floats, lead, make_changes, make_model, write_model
from typer.testing import CliRunner

import coldfuse as api
from coldfuse.cli.main import app
from coldfuse.errors import NotAllowedError, SignatureError, UserInputError
from coldfuse.registry.members import read_members
from coldfuse.transport import signing
from coldfuse.transport.client import GatewayClient
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.identity import Identity, find_identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.root import Root

MODEL = make_model()


def command(home: Path, *words: object) -> str:
    """Run a command as somebody, and return what it says on standard output."""
    return _run(home, *words).stdout


def proposal(home: Path, *words: object) -> str:
    """Run one that lacks another operator's signature, and return the id of what is proposed."""
    return re.search(r"proposed as ([0-9a-f]+)", _run(home, *words).output)[1]


def _run(home: Path, *words: object) -> Result:
    result = CliRunner().invoke(app, list(map(str, words)), env={"COLDFUSE_HOME": str(home)}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def trained(seed: int) -> dict[str, np.ndarray]:
    """A fine-tuned copy of the first base."""
    changed = {name: floats(MODEL[name].floats + change) for name, change in make_changes(MODEL, seed).items()}
    return {name: tensor.floats for name, tensor in (MODEL | changed).items() if tensor.spec.is_fused}


@dataclass
class Place:
    """A federation with its operator, its gateway and its members, each with a home of their own."""

    made: RootedFederation
    gateway: Process
    address: str

    @property
    def store(self) -> Path:
        return self.made.path / "store"

    def home(self, name: str) -> Path:
        return self.made.path / "homes" / name

    def folder(self, name: str) -> FederationFolder:
        return FederationFolder(self.home(name), self.made.keys.fingerprint)

    def operator(self, *words: object) -> str:
        return command(self.home("operator"), words[0], self.store, *words[1:])

    def join(self, name: str, *options: object) -> None:
        token = self.made.path / "token"
        self.operator("enroll", name, "--address", self.address, "--out", token, *options)
        command(self.home(name), "join", token)
        token.unlink()

    def identity(self, name: str) -> Identity:
        return find_identity(self.folder(name), name)

    def node(self, name: str) -> api.Federation:
        """Connect as a member does, in a process that goes on for long."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLDFUSE_HOME", str(self.home(name)))
            federation = api.connect(self.address, retry_s=10)
            federation.open()
        return federation

    def lead(self, number: int = 1) -> None:
        lead(self.made.opened(), number, now_s=time.time())

    def root(self) -> Root:
        return self.made.opened().trust.refresh().root

    def admitted(self) -> list[str]:
        return list(self.made.opened(leads=False).journal(1).state().admitted)

    def fused(self) -> list[str]:
        latest = self.made.opened(leads=False).latest()
        return sorted(one.contributor for one in latest.contributions)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = RootedFederation(tmp_path, rules={"quorum": 2, "deadline_s": 600.0, "close": "quorum"})
    operator = FederationFolder(tmp_path / "homes" / "operator", made.keys.fingerprint)
    operator.write_key("operator", made.keys.operators[0])
    operator.pin_root(made.keys.signed_root())
    with coldfuse("gateway", tmp_path / "store") as gateway:
        line = gateway.wait_for(lambda line: line.startswith("listening on "))
        yield Place(made, gateway, line.removeprefix("listening on "))


def send(node: api.Federation, seed: int, place: Place) -> api.Acknowledgement:
    return node.contribute(trained(seed), num_examples=10, base=place.made.path / "model", wait=False)


def refusal(node: api.Federation) -> str:
    """Say why a node may not ask; "" if it may."""
    try:
        node.status()
    except NotAllowedError as error:
        return str(error)
    return ""


def fetched(place: Place, node: api.Federation) -> None:
    node.fetch(place.made.path / "model")


def test_a_node_that_runs_takes_up_its_new_key_and_a_thief_is_left_with_the_old_one(place: Place) -> None:
    for name in ("ada", "bob"):
        place.join(name)
    place.lead()
    shutil.copytree(place.home("ada"), place.home("thief"))  # all that a node has
    with place.node("ada") as ada, place.node("thief") as thief, place.node("bob") as bob:
        fetched(place, ada)
        stolen = send(thief, 66, place)  # for as long as nobody knows, the thief is ada
        command(place.home("ada"), "rotate", place.address)
        # In one process, which nobody has told of the new key; a gateway counts what it has received twice a second.
        wait_until(lambda: ada.status().round.num_received == 1, "the gateway to count the delta")
        with pytest.raises(NotAllowedError, match="ada: there is no member of this name with the key"):
            thief.status()
        with pytest.raises(NotAllowedError, match="ada"):
            send(thief, 67, place)
        place.lead()
        assert stolen.verdict.contribution in place.admitted()
        place.operator("revoke", "ada", "--since", "1h", "--reason", "key stolen")
        place.lead()
        assert place.admitted() == []
        wait_until(lambda: refusal(ada), "the gateway to hear of it")
        assert "was revoked by an operator (key stolen)" in refusal(ada)
        place.join("ada")
        wait_until(lambda: not refusal(ada), "the gateway to hear of that")
        assert refusal(thief)
        sent = send(ada, 1, place)
        send(bob, 2, place)
        place.lead()
        assert place.fused() == ["ada", "bob"]
        wait_until(lambda: ada.verdict(sent).decision is api.Decision.ADMITTED, "the verdict")


def test_a_membership_that_expires_in_a_running_round_goes_on_once_it_is_renewed(place: Place) -> None:
    for name in ("ada", "bob"):
        place.join(name)
    place.lead()
    with place.node("ada") as ada, place.node("bob") as bob:
        fetched(place, ada)
        place.made.change("ada", valid_until_s=time.time() - 1)
        wait_until(lambda: refusal(ada), "the membership to expire")
        assert refusal(ada) == "ada: the membership has expired; an operator renews it with coldfuse enroll"
        assert not refusal(bob)
        assert place.operator("enroll", "ada", "--days", "30") == ""  # no token: the key is the same
        wait_until(lambda: not refusal(ada), "the renewal")
        for seed, node in enumerate((ada, bob)):
            send(node, seed, place)
        place.lead()
        assert place.fused() == ["ada", "bob"]


def test_a_node_that_is_revoked_ends_with_one_line_and_keeps_what_it_has_finished(place: Place) -> None:
    place.join("ada")
    place.lead()
    with place.node("ada") as ada:
        fetched(place, ada)
    model, work = place.made.path / "tuned", place.made.path / "work"
    write_model(model, MODEL | {n: floats(MODEL[n].floats + c) for n, c in make_changes(MODEL, 1).items()})
    words = ("contribute", place.address, "--model", model, "--num-examples", 5, "--release", 0, "--work", work)
    run_as(place.home("ada"), *words, "--dry-run", "--patience", "5s").succeed()  # trained and kept, and not sent
    place.operator("revoke", "ada", "--reason", "left")
    ended = run_as(place.home("ada"), *words, "--patience", "5s")
    assert (ended.wait(), len(ended.errors)) == (1, 1), str(ended)
    assert "ada: was revoked by an operator (left)" in ended.errors[0]
    assert list(work.glob("release-00000/delta.safetensors"))
    place.join("ada")  # invited anew, with another key
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLDFUSE_HOME", str(place.home("ada")))
        again = coldfuse(*words)
    with again:
        wait_until(lambda: place.made.opened(leads=False).journal(1).state().received, "what was kept")
        place.lead()
        again.succeed()
    assert place.admitted()


def test_root_and_operators_change_by_two_of_three_while_nodes_run(place: Place) -> None:
    store, root = place.store, place.made.keys.fingerprint
    for name in ("ada", "bob"):
        place.join(name)
    place.lead()
    with place.node("ada") as ada, place.node("bob") as bob:
        fetched(place, ada)
        homes = {name: place.home(name) for name in ("operator", "second", "third")}
        for name in ("second", "third"):
            (place.made.path / f"{name}.pub").write_text(
                command(homes[name], "keys", "export", store, "operator", "--new", "--root", root)
            )
        publics = [place.made.path / f"{name}.pub" for name in ("second", "third")]
        for role in ("operator", "root"):
            command(homes["operator"], "keys", "add", store, role, *publics)
            more = proposal(homes["operator"], "keys", "threshold", store, role, 2)
            command(homes["second"], "keys", "sign", store, more)
        assert place.root().roles["root"].threshold == place.root().roles["operator"].threshold == 2
        before = place.root().version
        rotation = proposal(homes["second"], "keys", "rotate", store, "operator")
        assert place.root().version == before  # one of three decides nothing
        command(homes["third"], "keys", "sign", store, rotation)
        assert place.root().version == before + 1
        invitation = proposal(homes["third"], "enroll", store, "cy", "--address", place.address)
        with pytest.raises(NotAllowedError, match="nobody has invited"):
            place.made.bind("cy", PrivateKey.generate(), before=PrivateKey.generate())
        command(homes["operator"], "keys", "sign", store, invitation)
        assert "cy" in read_members(place.made.store).members
        for seed, node in enumerate((ada, bob)):
            send(node, seed, place)  # they follow the root, and nobody has told them
        place.lead()
        assert place.fused() == ["ada", "bob"]
        assert ada.fetch(place.made.path / "next").release == 1


def test_a_node_whose_clock_is_off_says_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.join("ada")

    class Clock:
        @staticmethod
        def time() -> float:
            return time.time() - 3600

    monkeypatch.setattr(signing, "time", Clock)
    with GatewayClient(place.address, identity=place.identity("ada"), retry_s=5) as gateway:
        with pytest.raises(SignatureError, match=r"signed 3600 s before it came.*set this machine's clock"):
            gateway.status()
        monkeypatch.undo()
        assert gateway.status().round.number == 1


def test_several_members_on_one_machine_say_which_they_are(place: Place) -> None:
    for name in ("ada", "bob"):
        token = place.made.path / name
        place.operator("enroll", name, "--address", place.address, "--out", token)
        command(place.home("both"), "join", token)
    place.lead()
    with place.node("both") as both:
        fetched(place, both)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COLDFUSE_HOME", str(place.home("both")))
            with pytest.raises(UserInputError, match="ada, bob; say which: --name"):
                send(both, 1, place)
            for seed, name in enumerate(("ada", "bob")):
                both.contribute(trained(seed), num_examples=10, base=place.made.path / "model", wait=False, name=name)
            with pytest.raises(UserInputError, match="eve is no member"):
                both.contribute(trained(1), num_examples=1, base=place.made.path / "model", wait=False, name="eve")
    place.lead()
    assert place.fused() == ["ada", "bob"]


def run_as(home: Path, *words: object) -> Process:
    """Run a command in a process of its own, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLDFUSE_HOME", str(home))
        return run_coldfuse(*words)


def test_in_an_open_federation_a_name_belongs_to_the_first_key(tmp_path: Path) -> None:
    made = RootedFederation(tmp_path, keys=make_keys(is_open=True), rules={"quorum": 2, "close": "quorum"})
    lead(made.opened(), 1, now_s=time.time())
    with coldfuse("gateway", tmp_path / "store") as gateway:
        address = gateway.wait_for(lambda line: line.startswith("listening on ")).removeprefix("listening on ")
        place = Place(made, gateway, address)
        root = made.keys.fingerprint
        for home, seed in (("one", 1), ("two", 2)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("COLDFUSE_HOME", str(place.home(home)))
                with api.connect(address, root=root, retry_s=10) as node:
                    fetched(place, node)
                    name = {"name": "Klinik Köln" if home == "one" else "two"}
                    node.contribute(trained(seed), num_examples=5, base=made.path / "model", wait=False, **name)
                    if home == "two":
                        with pytest.raises(NotAllowedError, match="this name belongs to another key"):
                            node.contribute(
                                trained(3), num_examples=5, base=made.path / "model", wait=False, name="Klinik Köln"
                            )
    lead(made.opened(), 1)
    assert [one.display_name or one.contributor for one in sorted(
        made.opened().latest().contributions, key=lambda one: one.contributor
    )] == ["Klinik Köln", "two"]  # fmt: skip
