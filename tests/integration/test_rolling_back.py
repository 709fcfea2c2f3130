"""A federation goes back to an older release: what ends, what goes on, and what nobody else can bring about."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from commands import wait_until
from dying_store import DyingStore, KilledError
from operators import Person, Place
from rooted_rounds import SignedFederation, make_signed_federation
from tiny_nodes import MODEL, TinyNode, aggregating, running
from tiny_rounds import contribute, make_changes, make_federation, make_round

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import Round, advance
from coldfuse.consumer import fetch
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.round import Abandoned, LeaderEvent, Opened, Published, Received
from coldfuse.core.serialization import encode, sha256
from coldfuse.doctor.examine import Examination
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import (
    ConflictError,
    DamagedObjectError,
    FederationError,
    NotAllowedError,
    RollbackError,
    SignatureError,
    UserInputError,
)
from coldfuse.gateway.store import StoreGateway
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.moving import promote, roll_back
from coldfuse.registry.objects import Objects
from coldfuse.registry.published import next_number
from coldfuse.storage import LocalStore
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.envelope import sign
from coldfuse.trust.home import FederationFolder
from coldfuse.trust.keys import PrivateKey
from coldfuse.verification.store import Request, verify_store


def play(federation: Federation, number: int, *, names: tuple[str, ...] = ("ada", "ben")) -> None:
    """Lead a round of these contributors to its release."""
    lead_on(federation, number)
    for seed, name in enumerate(names):
        contribute(federation, name, make_changes(MODEL, 10 * number + seed))
    lead_on(federation, number)


def lead_on(federation: Federation, number: int) -> list[LeaderEvent]:
    """Do all that a leader does in a round that has just started, with what it knows of steps back."""
    events: list[LeaderEvent] = []
    while new := advance(round_of(federation, number)):
        events += new
    return events


def round_of(federation: Federation, number: int) -> Round:
    pointer = federation.channel("latest")
    made = next_number(federation.store, federation.settings, federation.trust, pointer=pointer)
    base = open_base(federation, federation.release_at(pointer), number=made)
    made_of = make_round(federation, number)
    return Round(
        federation=federation, journal=made_of.journal, base=base, executor=made_of.executor, now_s=made_of.now_s,
        clock=made_of.clock, rollback=pointer.rollback,
    )  # fmt: skip


def back(federation: Federation, number: int, reason: str = "worse") -> None:
    roll_back(federation, number, reason=reason, by="a test", signer=None)


@pytest.fixture
def three(tmp_path: Path) -> Federation:
    """A federation with three releases, whose round 4 is open."""
    federation = make_federation(tmp_path, MODEL)
    for number in (1, 2, 3):
        play(federation, number)
    lead_on(federation, 4)
    return federation


def findings(federation: Federation) -> list[str]:
    report = verify_store(federation.store, Request(at_s=time.time()))
    return [f"{finding}" for finding in report.findings if "nothing was signed" not in str(finding)]


def assert_sound(federation: Federation) -> None:
    assert findings(federation) == []
    assert [str(finding) for finding in Examination(federation).run().findings] == []


def test_the_running_round_ends_and_the_next_release_is_made_of_the_older_one(three: Federation) -> None:
    sent = contribute(three, "ada", make_changes(MODEL, 41))
    lead_on(three, 4)  # it is admitted
    back(three, 1, "worse on every set")
    assert [type(event).__name__ for event in lead_on(three, 4)] == ["Rejected", "Abandoned"]
    state = three.journal(4).state()
    assert state.abandoned == Abandoned(
        reason="the federation was rolled back to release 1 (worse on every set); fetch it, and send what you make of "
        "it"
    )
    assert state.rejected[sent].is_late
    play(three, 5)
    made = three.latest()
    assert (made.release, made.parent, made.round) == (4, 1, 5)
    opened = three.journal(5).state().opened
    assert (opened.base_release, opened.carried) == (1, ())  # type: ignore[union-attr]
    assert {one.base_release for one in opened.past} <= {0, 1}  # type: ignore[union-attr]  # of 2 none are taken
    assert [three.release(number).parent for number in range(5)] == [None, 0, 1, 2, 1]  # all is readable
    play(three, 6)
    assert (three.latest().release, three.latest().parent) == (5, 4)
    assert_sound(three)
    again = verify_store(three.store, Request(at_s=time.time(), executor=ThreadExecutor(1))).recomputed
    assert [(one.release, one.agrees) for one in again] == [(5, True), (4, True), (1, True)]


def test_twice_and_forward_again_and_numbers_are_never_used_twice(three: Federation) -> None:
    back(three, 1)
    back(three, 0)
    back(three, 3)  # it was not so bad
    steps = three.channel("latest").rollback
    assert (steps.number, steps.left, steps.release, steps.newest) == (3, 0, 3, 3)  # type: ignore[union-attr]
    lead_on(three, 4)
    play(three, 5)
    assert (three.latest().release, three.latest().parent) == (4, 3)
    assert len(three.store.list("rollbacks/").keys) == 3
    assert_sound(three)
    (Path(three.store.url) / "rollbacks" / "00002.json").unlink()
    assert ["rollbacks/00002.json" in line for line in findings(three)] == [True]


def test_what_cannot_be_gone_back_to_is_refused_and_nothing_is_written(three: Federation) -> None:
    before = three.store.get("channels/latest")
    with pytest.raises(UserInputError, match="release 3 is the latest already"):
        back(three, 3)
    with pytest.raises(FederationError, match="there is no release 4; the newest is 3"):
        back(three, 4)
    with pytest.raises(UserInputError, match="at most 500"):
        back(three, 1, "x" * 501)
    root = Path(three.store.url)
    part = three.release(1).files["model.safetensors"].parts[0].digest
    sound = (root / "objects" / part).read_bytes()
    (root / "objects" / part).write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with pytest.raises(DamagedObjectError, match=r"release 1: a part of model\.safetensors"):
        back(three, 1)
    (root / "objects" / part).write_bytes(sound)
    manifest = (root / "releases" / "00002.json").read_bytes()
    (root / "releases" / "00002.json").write_bytes(manifest.replace(b'"round":2', b'"round":1'))
    digest = three.journal(2).state().fused.manifest  # type: ignore[union-attr]
    (root / "objects" / digest).unlink()
    with pytest.raises(DamagedObjectError, match=r"releases/00002\.json"):
        back(three, 2)
    assert three.store.get("channels/latest") == before
    assert not three.store.list("rollbacks/").keys
    back(three, 1)


def test_a_release_that_was_about_to_come_out_does_not_and_its_number_is_passed_over(three: Federation) -> None:
    for seed, name in enumerate(("ada", "ben")):
        contribute(three, name, make_changes(MODEL, 40 + seed))
    old = round_of(three, 4)
    while not (state := old.journal.state()).fused:
        advance(old)
    manifest = three.objects.get_value(type(three.latest()), state.fused.manifest)  # type: ignore[union-attr]
    back(three, 1)
    with pytest.raises(ConflictError, match="4 continues 3, but 1 is the latest"):
        advance(old)  # its leader has not heard of it
    assert [type(event).__name__ for event in lead_on(three, 4)] == ["Rejected", "Abandoned"]
    # A leader that was paused for long has written its manifest between two of its looks:
    three.objects.put_value(manifest)
    three.store.put_if_absent("releases/00004.json", encode(manifest))
    play(three, 5)
    assert (three.latest().release, three.latest().parent) == (5, 1)
    assert three.release(4) == manifest
    assert_sound(three)


def test_a_release_whose_number_is_used_up_at_the_last_moment_is_made_in_the_next_round(three: Federation) -> None:
    for seed, name in enumerate(("ada", "ben")):
        contribute(three, name, make_changes(MODEL, 40 + seed))
    old = round_of(three, 4)
    while not (state := old.journal.state()).fused:
        advance(old)
    manifest = three.objects.get_value(type(three.latest()), state.fused.manifest)  # type: ignore[union-attr]
    back(three, 1)
    lead_on(three, 4)
    lead_on(three, 5)
    for seed, name in enumerate(("ada", "ben")):
        contribute(three, name, make_changes(MODEL, 50 + seed))
    new = round_of(three, 5)
    while not new.journal.state().fused:
        advance(new)
    three.store.put_if_absent("releases/00004.json", encode(manifest))
    assert [type(event).__name__ for event in lead_on(three, 5)] == ["Abandoned"]
    lead_on(three, 6)
    assert (three.latest().release, three.latest().parent, three.latest().round) == (5, 1, 6)
    assert len(three.latest().contributions) == 2


def test_a_round_that_was_out_and_not_written_down_is_written_down(three: Federation) -> None:
    for seed, name in enumerate(("ada", "ben")):
        contribute(three, name, make_changes(MODEL, 40 + seed))
    old = round_of(three, 4)
    while not (state := old.journal.state()).fused:
        advance(old)
    three.publish(three.objects.get_value(type(three.latest()), state.fused.manifest))  # type: ignore[union-attr]
    back(three, 2)
    assert lead_on(three, 4) == [Published(release=4)]
    play(three, 5)
    assert (three.latest().release, three.latest().parent) == (5, 2)
    assert_sound(three)


def test_a_round_that_was_opened_by_who_had_not_heard_of_it_ends_too(three: Federation) -> None:
    old = round_of(three, 5)
    back(three, 1)  # round 4 is the last that had begun
    lead_on(three, 4)
    opened = Opened(base_release=3, base_digest=three.release(3).model_digest, opened_at_s=0.0)
    old.journal.state()
    old.journal.append(opened)
    assert [type(event).__name__ for event in lead_on(three, 5)] == ["Abandoned"]
    play(three, 6)
    assert (three.latest().release, three.latest().parent) == (4, 1)


def test_a_leader_with_an_old_pointer_ends_no_round_of_the_one_after_it(three: Federation) -> None:
    back(three, 1)
    lead_on(three, 4)
    stale = round_of(three, 6)  # on release 1
    play(three, 5)
    lead_on(three, 6)  # opened on release 4
    assert advance(stale) == []
    assert three.journal(6).state().abandoned is None


def test_a_channel_that_is_damaged_after_it_brings_nothing_back(three: Federation) -> None:
    back(three, 1)
    path = Path(three.store.url) / "channels" / "latest"
    path.write_bytes(b"{}")
    assert three.channel("latest").release == 1
    three.mended_latest()
    lead_on(three, 4)
    play(three, 5)
    path.write_bytes(b"{}")
    assert (three.channel("latest").release, three.current_round()) == (4, 6)
    path.unlink()
    (path.parent.parent / "rollbacks" / "00001.json").write_bytes(b"{}")
    with pytest.raises(DamagedObjectError, match=r"rollbacks/00001\.json"):
        three.channel("latest")


def killed_at(url: str, dies_at: int) -> bool:
    """Go back with a store whose process dies; True if it did."""
    store = DyingStore(url, dies_at=dies_at)
    try:
        back(Federation(store, open_federation(LocalStore(url)).settings), 1)
    except KilledError:
        return True
    return False


def test_killed_anywhere_it_is_either_before_or_after(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "one", MODEL)
    for number in (1, 2):
        play(federation, number)
    lead_on(federation, 3)
    url, dies_at, pointed = federation.store.url, 1, set[int]()
    before = federation.store.get("channels/latest")
    while killed_at(url, dies_at):
        there = federation.channel("latest")
        assert (there.release, there.rollback is None) in ((2, True), (1, False))
        pointed.add(there.release)
        federation.store.compare_and_swap(
            "channels/latest", before, etag=federation.store.get_with_etag("channels/latest")[1]
        )
        for key in federation.store.list("rollbacks/").keys:
            federation.store.delete(key)
        dies_at += 1
    assert pointed == {1, 2}
    assert dies_at > 10
    lead_on(federation, 3)
    play(federation, 4)
    assert (federation.latest().release, federation.latest().parent) == (3, 1)
    assert_sound(federation)


def late(federation: Federation) -> list[list[Received]]:
    """Return what waits for a verdict in rounds that are over."""
    states = [federation.journal(number).state() for number in range(1, federation.current_round() + 1)]
    return [state.waiting for state in states if state.is_over]


def test_nodes_follow_through_a_gateway_and_none_stops(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "f", MODEL, quorum=3)
    with aggregating(federation), serve_gateway(federation) as gateway:
        nodes = [
            TinyNode(name, GatewayClient(gateway.address, retry_s=30.0), tmp_path / name)
            for name in ("ada", "ben", "cy", "dot")
        ]
        with running(*nodes):
            wait_until(lambda: federation.channel("latest").release >= 2, "two releases")
            back(federation, 1)
            newest = federation.channel("latest").newest
            wait_until(lambda: federation.channel("latest").release >= newest + 2, "two releases after it")
            back(federation, newest + 1)
            last = federation.channel("latest").newest
            wait_until(lambda: federation.channel("latest").release > last, "a release after the second time")
        wait_until(lambda: not any(late(federation)), "a verdict on what came too late")
    assert federation.release(newest + 1).parent == 1
    assert federation.release(last + 1).parent == newest + 1
    assert_sound(federation)


def test_a_second_aggregator_takes_it_up(three: Federation) -> None:
    back(three, 1)
    with aggregating(open_federation(LocalStore(three.store.url))) as events:
        wait_until(lambda: (5, "opened") in events, "the round on the older release")
    assert events[:2] == [(4, "abandoned"), (5, "opened")]
    with aggregating(open_federation(LocalStore(three.store.url))):  # and another after that one
        contribute(three, "ada", make_changes(MODEL, 50))
        contribute(three, "ben", make_changes(MODEL, 51))
        wait_until(lambda: three.channel("latest").release == 4, "the release")
    assert three.latest().parent == 1


def test_the_same_work_is_sent_again_where_the_federation_begins_anew_on_its_base(tmp_path: Path) -> None:
    """Nobody trains a second time, and nobody waits for a release that was taken back."""
    federation = make_federation(tmp_path / "f", MODEL, quorum=1)
    node = TinyNode("ada", StoreGateway(federation), tmp_path / "ada")
    with aggregating(federation):
        node.contribute()
        assert federation.channel("latest").release == 1
        back(federation, 0)
        wait_until(lambda: node.client.status().latest.number == 0, "a status from after it")
        node.contribute()
        wait_until(lambda: federation.channel("latest").release == 2, "the release that is made of it again")
    first, again = (federation.release(number).contributions[0] for number in (1, 2))
    assert (first.delta_digest, federation.release(2).parent) == (again.delta_digest, 0)
    assert first.contribution != again.contribution


# With a root.


@pytest.fixture
def signed(tmp_path: Path) -> SignedFederation:
    return make_signed_federation(tmp_path, rounds=3, method="mean")


def signed_back(made: SignedFederation, number: int, key: PrivateKey) -> None:
    reader = open_federation(LocalStore(made.store.url))
    roll_back(reader, number, reason="worse", by="ada", signer=key)


def test_an_operator_signs_it_and_everybody_follows(signed: SignedFederation, tmp_path: Path) -> None:
    gateway = TrustedGateway(
        StoreGateway(signed.federation), anchor=signed.keys.fingerprint,
        folder=FederationFolder(tmp_path / "home", signed.keys.fingerprint),
    )  # fmt: skip
    out = tmp_path / "out"
    assert fetch(gateway, out).manifest.release == 3
    signed_back(signed, 1, signed.keys.operators[0])  # type: ignore[arg-type]
    fetched = fetch(gateway, out)
    assert fetched.manifest.release == 1
    assert fetched.changed == (
        "the federation is at release 1, and was at 3 before: rolled back from release 3 to 1: worse"
    )
    assert [summary.name.number for summary in gateway.releases()] == [3, 2, 1, 0]
    assert gateway.status().latest.number == 1
    play_signed(signed, 4)
    made = signed.federation.latest()
    assert (made.release, made.parent) == (4, 1)
    assert fetch(gateway, out).manifest.release == 4
    report = verify_store(signed.store, Request(at_s=time.time(), fingerprint=signed.keys.fingerprint))
    assert report.findings == ()
    assert [str(finding) for finding in Examination(signed.federation).run().findings] == []


def play_signed(made: SignedFederation, number: int) -> None:
    lead_on(made.federation, number)
    for index, name in enumerate(("ada", "ben", "cy")):
        made.contribute(name, 10 * number + index)
    lead_on(made.federation, number)


def test_nobody_else_can_go_back(signed: SignedFederation, tmp_path: Path) -> None:
    store, key = signed.store, "channels/latest"
    older = store.get(key)
    stranger = PrivateKey.generate()
    with pytest.raises(NotAllowedError):
        roll_back(open_federation(store), 1, reason="", by="", signer=None)
    signed.round(4)
    reader = open_federation(store, home=tmp_path / "home")
    assert reader.channel("latest").release == 4
    newest = store.get(key)

    def put(data: bytes) -> None:
        store.compare_and_swap(key, data, etag=store.get_with_etag(key)[1])

    put(older)  # whoever can write to the store, and has kept a copy
    gateway = TrustedGateway(
        StoreGateway(signed.federation), anchor=signed.keys.fingerprint,
        folder=FederationFolder(tmp_path / "consumer", signed.keys.fingerprint),
    )  # fmt: skip
    put(newest)
    assert fetch(gateway, tmp_path / "out").manifest.release == 4
    put(older)
    with pytest.raises(RollbackError):
        fetch(gateway, tmp_path / "out")
    put(newest)
    channel = reader.channel("latest")
    put(sign(encode(channel.model_copy(update={"version": channel.version + 10})), "channel", [stranger]))  # type: ignore[attr-defined]
    with pytest.raises(SignatureError):
        fetch(gateway, tmp_path / "out")
    with pytest.raises(SignatureError):
        roll_back(open_federation(store), 1, reason="", by="", signer=signed.keys.operators[0])  # type: ignore[arg-type]
    put(newest)
    with pytest.raises(NotAllowedError, match="cannot sign it alone"):
        roll_back(open_federation(store), 1, reason="", by="", signer=stranger)
    assert store.get(key) == newest


def test_what_somebody_has_put_in_the_place_of_a_release_is_not_gone_back_to(signed: SignedFederation) -> None:
    true = signed.federation.release_bytes(1)
    forged = signed.federation.release(1).model_copy(update={"files": signed.federation.release(3).files})
    Objects(signed.store).put_value(forged)
    signed.store.compare_and_swap(
        "releases/00001.json", encode(forged), etag=signed.store.get_with_etag("releases/00001.json")[1]
    )
    signed_back(signed, 1, signed.keys.operators[0])  # type: ignore[arg-type]
    assert signed.federation.channel("latest").manifest == sha256(true)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def two_operators(place: Place) -> tuple[Person, Person]:
    ada, bob = place.init("--open"), place.person("bob")
    root = ("--root", place.fingerprint())
    public = bob.succeed("keys", "export", place.store, "operator", "--new", *root).stdout
    (place.path / "bob.pub").write_text(public)
    ada.succeed("keys", "add", place.store, "operator", place.path / "bob.pub")
    return ada, bob


def test_by_command_where_two_operators_must_sign(place: Place) -> None:
    """The first proposes it, the second signs it, and only then is anything moved."""
    ada, bob = two_operators(place)
    federation = open_federation(LocalStore(place.store))
    assert federation.channel("latest").release == 0
    ada.succeed("keys", "threshold", place.store, "operator", 2)
    [threshold] = json.loads(bob.succeed("keys", "sign", place.store, "--json").stdout)
    bob.succeed("keys", "sign", place.store, threshold["id"])
    result = ada.run("promote", place.store, "0")
    assert result.exit_code == 0, result.output
    assert "stable" not in list(federation.pointers.names())
    [waiting] = json.loads(bob.succeed("keys", "sign", place.store, "--json").stdout)
    listed = bob.succeed("keys", "sign", place.store).stdout
    assert "channel stable: points to release 0" in listed
    bob.succeed("keys", "sign", place.store, waiting["id"])
    assert open_federation(LocalStore(place.store)).channel("stable").release == 0
    assert "nothing to change" in ada.succeed("promote", place.store, "0").stdout
    assert "release 0 is the latest already" in ada.fail("rollback", place.store, "--to", "0")


def test_stable_is_promoted_and_steps_back_with_latest(three: Federation, tmp_path: Path) -> None:
    person = Person(tmp_path / "home")
    store = three.store.url
    assert "stable is release 3" in person.succeed("promote", store).stdout
    assert "nothing to change" in person.succeed("promote", store, "3").stdout
    assert "there is no release 9" in person.fail("promote", store, "9")
    assert person.succeed("fetch", store, "--channel", "stable", "--out", tmp_path / "out").exit_code == 0
    said = json.loads(person.succeed("rollback", store, "--to", "1", "--reason", "worse", "--json").stdout)
    assert (said["stable"], said["rollback"]["release"], said["rollback"]["reason"]) == (1, 1, "worse")
    assert "was rolled back" in person.fail("promote", store, "2")
    listed = json.loads(person.succeed("releases", store, "--json").stdout)
    assert [(one["release"], one["channels"], one["is_taken_back"]) for one in listed] == [
        (3, [], True), (2, [], True), (1, ["latest", "stable"], False), (0, [], False),
    ]  # fmt: skip
    shown = person.succeed("status", store).stdout
    assert "channels: stable is release 1" in shown
    assert "last rolled back from release 3 to 1: worse" in shown
    assert "release 1 " in person.succeed("lineage", store).stdout
    with pytest.raises(UserInputError, match="rolled back"):
        promote(three, 3, signer=None)
    assert "--allow-older" in person.fail("fetch", store, "--channel", "stable", "--out", tmp_path / "out")
