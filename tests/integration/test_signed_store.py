"""What lies in the store of a federation with a root: who has signed it, what is believed, and what is renewed."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rooted import RootedFederation, make_keys
from tiny_rounds import lead, make_changes, make_contribution, make_federation, make_model
from typer.testing import CliRunner

from coldfuse.aggregator.service import AggregatorSettings, serve_rounds
from coldfuse.aggregator.signing import sign_release
from coldfuse.api.opening import open_gateway
from coldfuse.cli.main import app
from coldfuse.cli.serving import with_keys
from coldfuse.cli.source import start_on
from coldfuse.config import home_folder
from coldfuse.consumer.anchors import find_anchor
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.federation import ChangeableSettings, FederationSettings
from coldfuse.core.release import Channel
from coldfuse.core.sealed import seal
from coldfuse.core.serialization import encode, sha256
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import (
    ConflictError,
    DamagedObjectError,
    FederationError,
    NotAllowedError,
    RollbackError,
    SignatureError,
    TrustError,
)
from coldfuse.registry.creation import create_federation
from coldfuse.registry.federation import Federation, open_federation
from coldfuse.registry.pointers import plain_channel
from coldfuse.registry.settings import COPY_KEY, SETTINGS_KEY, list_changes, read_settings, write_change
from coldfuse.registry.signed import write_signed
from coldfuse.storage import LocalStore
from coldfuse.trust.channel import SignedChannel
from coldfuse.trust.founding import AggregatorSigner
from coldfuse.trust.home import FederationFolder, write_private_key
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.seen import Memory

MODEL = make_model()
LATEST = "channels/latest"
DAY_S = 86400.0


@pytest.fixture
def made(tmp_path: Path) -> RootedFederation:
    return RootedFederation(tmp_path)


def swap(made: RootedFederation, key: str, data: bytes) -> None:
    made.store.compare_and_swap(key, data, etag=made.store.get_with_etag(key)[1])


def channel_of(federation: Federation, name: str = "latest") -> SignedChannel:
    found = federation.channel(name)
    assert isinstance(found, SignedChannel)
    return found


def change(made: RootedFederation, quorum: int, *signers: PrivateKey) -> None:
    settings, etag = read_settings(made.store)
    wanted = ChangeableSettings(quorum=quorum)
    write_change(made.store, settings, etag, wanted, by="ada", after_release=0, signers=signers)


def test_rules_are_changed_by_operators_alone(made: RootedFederation) -> None:
    change(made, 3, *made.keys.operators)
    assert made.opened().settings.rules.quorum == 3
    assert [str(each) for each in list_changes(made.store)] == ["quorum 1 → 3"]
    before = made.store.get(SETTINGS_KEY)
    for signers in ([], [PrivateKey.generate()], [made.keys.aggregator]):
        with pytest.raises(SignatureError, match="operator's"):
            change(made, 4, *signers)  # type: ignore[arg-type]
    assert made.store.get(SETTINGS_KEY) == before


def test_as_many_operators_sign_the_rules_as_the_root_wants(tmp_path: Path) -> None:
    operators = [PrivateKey.generate() for _ in range(3)]
    made = RootedFederation(tmp_path, keys=make_keys(operators=operators, threshold=2, root_threshold=2))
    with pytest.raises(SignatureError, match="expected 2 of"):
        change(made, 3, operators[0])
    change(made, 3, operators[0], operators[2])
    assert made.opened().settings.rules.quorum == 3


def sign_settings(settings: FederationSettings, key: PrivateKey) -> bytes:
    return write_signed(encode(settings), "federation", [key], version=2)


FORGED_SETTINGS = {
    "without a root": lambda made, s: seal(s.model_copy(update={"root": None})),
    "signed by nobody": lambda made, s: seal(s),
    "signed by another": lambda made, s: sign_settings(s, PrivateKey.generate()),
    "signed by the aggregator": lambda made, s: write_signed(
        encode(s), "federation", [made.keys.aggregator], version=2
    ),
    "another federation's": lambda made, s: RootedFederation(made.path / "other").store.get(SETTINGS_KEY),
}


@pytest.mark.parametrize("what", FORGED_SETTINGS)
def test_other_settings_are_believed_by_nobody_who_knows_the_root(made: RootedFederation, what: str) -> None:
    swap(made, SETTINGS_KEY, FORGED_SETTINGS[what](made, made.opened().settings))
    with pytest.raises(TrustError, match=SETTINGS_KEY):
        open_federation(made.store, fingerprint=made.keys.fingerprint)


def test_a_damaged_document_gives_way_to_its_copy_which_is_signed_too(made: RootedFederation) -> None:
    change(made, 3, *made.keys.operators)
    for damage in (b"{", made.store.get(SETTINGS_KEY).replace(b"payload", b"pbyload")):
        swap(made, SETTINGS_KEY, damage)
        assert made.opened(leads=False).settings.rules.quorum == 3
    swap(made, COPY_KEY, seal(made.opened(leads=False).settings))
    with pytest.raises(SignatureError, match="nobody has signed it"):
        made.opened(leads=False)


def test_rules_that_were_put_back_are_noticed_by_who_knows_newer_ones(made: RootedFederation) -> None:
    before = made.store.get(SETTINGS_KEY)
    change(made, 3, *made.keys.operators)
    federation = made.opened()
    swap(made, SETTINGS_KEY, before)
    with pytest.raises(RollbackError, match="holds change 0 of the settings, and 1 was seen"):
        federation.reopened()


def serves(made: RootedFederation) -> Federation:
    return start_on(str(made.store.url))


def leads(made: RootedFederation) -> Federation:
    return with_keys(serves(made), made.path / "keys")


def changes_rules(made: RootedFederation) -> None:
    key = made.path / "keys" / "operator.pem"
    options = [str(made.store.url), "--deadline", "3h", "--root", made.keys.fingerprint, "--key", str(key)]
    result = CliRunner().invoke(app, ["set", *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception


def contributes(made: RootedFederation) -> None:
    with open_gateway(str(made.store.url)) as gateway:
        assert isinstance(gateway, TrustedGateway)
        gateway.belief.settings()


@pytest.mark.parametrize("starts", [serves, leads, changes_rules, contributes])
def test_who_starts_anew_believes_no_older_rules_than_this_users_home_has_seen(
    made: RootedFederation, starts: Callable[[RootedFederation], object]
) -> None:
    write_private_key(made.path / "keys" / "aggregator.pem", made.keys.aggregator)  # type: ignore[arg-type]
    write_private_key(made.path / "keys" / "operator.pem", made.keys.operators[0])  # type: ignore[arg-type]
    find_anchor(made.store.get, made.store.url, home=home_folder(), root=made.keys.fingerprint)
    before = made.store.get(SETTINGS_KEY)
    change(made, 3, *made.keys.operators)
    starts(made)
    swap(made, SETTINGS_KEY, before)
    swap(made, COPY_KEY, before)
    with pytest.raises(RollbackError, match=r"holds change 0 of the settings, and [12] was seen"):
        starts(made)


def test_a_version_before_roots_says_that_it_is_too_old(made: RootedFederation) -> None:
    """Such a version reads `version` before anything else, and knows 1."""
    assert b'"version":2' in made.store.get(SETTINGS_KEY)


def test_a_channels_version_grows_with_every_release_and_renewal(made: RootedFederation) -> None:
    ada, versions = made.enroll("ada"), [channel_of(made.opened()).version]
    for number in (1, 2):
        lead(made.opened(), number, now_s=time.time())
        made.send("ada", make_changes(MODEL, number), ada)
        lead(made.opened(), number)
        versions.append(channel_of(made.opened()).version)
    assert versions == sorted(set(versions))
    found = channel_of(made.opened())
    assert (found.release, found.root, found.members, found.federation) == (2, 1, 2, made.keys.fingerprint)
    assert 6.9 * DAY_S < found.expires_at_s - time.time() <= 7 * DAY_S


def test_a_channel_is_renewed_before_it_expires_while_nothing_is_published(made: RootedFederation) -> None:
    first = channel_of(made.opened())
    for days, is_renewed in ((3.0, False), (3.6, True)):
        federation = replace(made.opened(), now_s=lambda days=days: time.time() + days * DAY_S)
        assert federation.mended_latest() == plain_channel(first)
        assert (channel_of(federation) != first) is is_renewed
    renewed = channel_of(federation)
    assert renewed.version > first.version
    assert renewed.expires_at_s - first.expires_at_s > 3 * DAY_S


def test_a_leader_that_waits_renews_every_channel(made: RootedFederation) -> None:
    federation = made.opened()
    stable = federation.pointers.write(
        "stable", plain_channel(federation.channel("latest")), None, made.keys.operators[0]
    )
    offset, stop, looks = [0.0], threading.Event(), itertools.count()

    def now_s() -> float:
        if next(looks) > 60:
            offset[0] = 4 * DAY_S
        if channel_of(made.opened(leads=False), "stable") != stable:
            stop.set()
        return time.time() + offset[0]

    leader = replace(federation, now_s=now_s)
    watchdog = threading.Timer(20.0, stop.set)
    watchdog.start()
    for _ in serve_rounds(leader, ThreadExecutor(1), AggregatorSettings(poll_s=0.01), stop=stop):
        pass
    watchdog.cancel()
    assert channel_of(made.opened(leads=False), "stable").version > stable.version  # type: ignore[attr-defined]
    assert channel_of(made.opened(leads=False)).expires_at_s > time.time() + 10 * DAY_S


@pytest.mark.parametrize(
    "damage", [b"rot", seal(Channel(release=0, round=0, manifest="1" * 64, model_digest="1" * 64))]
)
def test_another_channel_that_cannot_be_believed_stops_no_leader(made: RootedFederation, damage: bytes) -> None:
    made.store.put_if_absent("channels/stable", damage)
    made.opened().renew_channels()
    assert made.store.get("channels/stable") == damage
    with pytest.raises((SignatureError, DamagedObjectError), match="channels/stable"):
        made.opened(leads=False).channel("stable")


def test_a_channel_says_soon_that_there_are_newer_members(made: RootedFederation) -> None:
    made.enroll("ada")
    federation = made.opened()
    federation.trust.refresh()  # type: ignore[union-attr]
    federation.mended_latest()
    assert channel_of(federation).members == 2


@pytest.mark.parametrize("is_new_process", [False, True])
def test_a_leader_signs_no_older_channel_anew_that_was_put_back(
    made: RootedFederation, is_new_process: bool, tmp_path: Path
) -> None:
    memory = Memory(FederationFolder(tmp_path / "home", made.keys.fingerprint))
    leader = replace(made.opened(), memory=memory)
    older, ada = made.store.get(LATEST), made.enroll("ada")
    lead(leader, 1, now_s=time.time())
    made.send("ada", make_changes(MODEL, 1), ada)
    lead(leader, 1)
    newest = leader.mended_latest()
    assert newest.release == 1

    swap(made, LATEST, older)  # signed by the aggregator, and not expired
    if is_new_process:
        leader = replace(made.opened(), memory=memory)
    with pytest.raises(RollbackError, match="channel latest"):
        leader.channel("latest")
    assert leader.mended_latest() == newest
    assert channel_of(made.opened(leads=False)).release == 1


def test_who_was_revoked_is_not_let_in_again_by_taking_the_newest_list_away(
    made: RootedFederation, tmp_path: Path
) -> None:
    memory = Memory(FederationFolder(tmp_path / "home", made.keys.fingerprint))
    made.enroll("ada")
    made.revoke("ada", since_s=time.time())
    replace(made.opened(), memory=memory).mended_latest()  # what leads signs the newest version of the list
    made.store.delete("members/3.json")

    gateway = made.opened(leads=False)
    with pytest.raises(RollbackError, match="members 3"):
        gateway.channel("latest")
    with pytest.raises(RollbackError, match="members 3"):
        gateway.trust.refresh()  # type: ignore[union-attr]
    before = made.store.get(LATEST)
    with pytest.raises(RollbackError, match="members 2"):
        replace(made.opened(), memory=memory).mended_latest()
    assert made.store.get(LATEST) == before


def test_a_store_that_forgets_its_root_is_served_by_nobody_who_knows_it(made: RootedFederation) -> None:
    url, home, keys = str(made.path / "store"), home_folder(), made.path / "keys"
    find_anchor(made.store.get, url, home=home, root=made.keys.fingerprint)
    assert start_on(url).settings.root == made.keys.fingerprint
    unsigned = made.opened().settings.model_copy(update={"root": None, "version": 1})
    swap(made, SETTINGS_KEY, seal(unsigned))
    with pytest.raises(SignatureError, match="hands out no root"):
        start_on(url)
    write_private_key(keys / "aggregator.pem", made.keys.aggregator)  # another machine, which knows nothing else
    with pytest.raises(SignatureError, match=r"no root, and .* holds an aggregator's key"):
        with_keys(open_federation(made.store), keys)
    shutil.rmtree(made.path / "store")
    other = RootedFederation(made.path / "other")
    shutil.copytree(other.path / "store", made.path / "store")
    with pytest.raises(SignatureError, match="answers as"):
        start_on(url)


FORGED_CHANNELS = {
    "signed by nobody": lambda made, c: seal(plain_channel(c)),
    "signed by another": lambda made, c: write_signed(encode(c), "channel", [PrivateKey.generate()]),
    "another channel": lambda made, c: write_signed(
        encode(c.model_copy(update={"name": "stable"})), "channel", [made.keys.aggregator]),
    "another federation's": lambda made, c: RootedFederation(made.path / "other").store.get(LATEST),
    "signed under a hidden root": lambda made, c: write_signed(
        encode(c.model_copy(update={"root": 9})), "channel", [made.keys.aggregator]),
    "far ahead": lambda made, c: write_signed(
        encode(c.model_copy(update={"version": 2**53, "release": 7})), "channel", [PrivateKey.generate()]),
}  # fmt: skip


@pytest.mark.parametrize("what", FORGED_CHANNELS)
def test_a_forged_channel_is_believed_by_nobody_and_made_anew_by_who_leads(made: RootedFederation, what: str) -> None:
    before = channel_of(made.opened())
    swap(made, LATEST, FORGED_CHANNELS[what](made, before))
    with pytest.raises(TrustError, match="latest"):
        made.opened(leads=False).channel("latest")
    assert made.opened().mended_latest() == plain_channel(before)
    after = channel_of(made.opened(leads=False))
    assert before.version <= after.version < 2**53


@pytest.mark.parametrize("damage", [None, b"{", b"rot"])
def test_a_lost_channel_is_made_of_releases_that_are_signed(made: RootedFederation, damage: bytes | None) -> None:
    before = channel_of(made.opened())
    planted = made.opened().release(0).model_copy(update={"release": 1, "parent": 0, "round": 1})
    data = encode(planted)
    made.opened().objects.put_value(planted)
    made.store.put_if_absent("releases/00001.json", data)  # whoever can write to the store can do as much
    made.store.delete(LATEST)
    if damage is not None:
        made.store.put_if_absent(LATEST, damage)
    assert made.opened(leads=False).channel("latest") == plain_channel(before)
    assert made.opened().mended_latest() == plain_channel(before)
    assert channel_of(made.opened()).version >= before.version


def test_an_aggregator_whose_key_is_replaced_publishes_nothing_more(made: RootedFederation) -> None:
    ada, federation, new = made.enroll("ada"), made.opened(), PrivateKey.generate()
    lead(federation, 1, now_s=time.time())
    sent = made.send("ada", make_changes(MODEL, 0), ada)
    made.rotate_aggregator(new)
    events = serve_rounds(federation, ThreadExecutor(1), AggregatorSettings(poll_s=0.01), stop=threading.Event())
    with pytest.raises(NotAllowedError, match=r"has the key .*, and root 2 of the federation names"):
        list(events)
    assert made.store.head("releases/00001.json") is None
    after = open_federation(made.store, signer=AggregatorSigner(aggregator=new, model=made.keys.model))
    after.mended_latest()
    lead(after, 1)
    assert after.journal(1).state().rejected[sent].is_late  # it is to be sent again
    lead(after, 2, now_s=time.time())
    made.receive(make_contribution(after, "ada", make_changes(MODEL, 0), round=2), ada)
    lead(after, 2, now_s=time.time())
    assert channel_of(after).release == 1
    assert channel_of(after).root == 2


def test_no_leader_starts_without_a_key(made: RootedFederation) -> None:
    with pytest.raises(NotAllowedError, match="this aggregator has no key"):
        next(serve_rounds(made.opened(leads=False), ThreadExecutor(1), AggregatorSettings(), stop=threading.Event()))


def test_two_who_publish_at_once_leave_one_release(made: RootedFederation) -> None:
    federation = made.opened()
    there = federation.pointers.read("latest")
    federation.pointers.write("latest", there.channel, there, made.keys.aggregator)
    with pytest.raises(ConflictError):
        federation.pointers.write("latest", there.channel, there, made.keys.aggregator)


def test_a_federation_without_a_root_is_written_as_ever(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL)
    assert LocalStore(tmp_path / "store").get(SETTINGS_KEY) == seal(federation.settings)
    assert federation.store.get(LATEST) == seal(Channel(**dict(federation.channel("latest"))))
    assert not {"root", "adopted", "channel_expires_s"} & federation.settings.model_dump().keys()


def test_a_creation_by_other_keys_is_refused(made: RootedFederation) -> None:
    made.store.delete(SETTINGS_KEY)
    made.store.delete(COPY_KEY)
    with pytest.raises(FederationError, match="holds a root of other keys"):
        create_federation(
            made.store, name="tiny", base=made.base, origin="base", method="mean", rules={}, trust=make_keys()
        )  # fmt: skip
    again = create_federation(
        made.store, name="tiny", base=made.base, origin="base", method="mean", rules={}, trust=made.keys
    )  # fmt: skip
    assert again.settings.root == made.keys.fingerprint


FORGED_RELEASES = {
    "another's manifest": lambda next_one: encode(next_one.model_copy(update={"created_at_s": 5.0})),
    "garbage": lambda next_one: b"{",
    "nothing": lambda next_one: b"",
    "more than there can be": lambda next_one: b"x" * (9 << 20),
}


@pytest.mark.parametrize("forged", FORGED_RELEASES)
def test_a_forged_manifest_of_the_next_release_gives_way(made: RootedFederation, forged: str) -> None:
    """An object of the same bytes makes it count as written where nothing is signed."""
    first = made.opened().latest()
    next_one = first.model_copy(update={"release": 1, "parent": 0, "round": 1})
    data = FORGED_RELEASES[forged](next_one)
    made.store.put_if_absent("releases/00001.json", data)
    made.store.put_if_absent(f"objects/{sha256(data)}", data)
    lead(made.opened(), 1, now_s=time.time())
    made.send("ada", make_changes(MODEL, 1), made.enroll("ada"))
    lead(made.opened(), 1)
    federation = made.opened()
    assert federation.latest().release == 1
    assert made.store.get("releases/00001.json") == federation.release_bytes(1) != data


def test_a_release_of_an_aggregator_that_may_is_never_replaced(made: RootedFederation) -> None:
    federation = made.published()
    other = federation.latest().model_copy(update={"created_at_s": 5.0})
    with pytest.raises(ConflictError, match="was published by another aggregator"):
        sign_release(federation, other, ThreadExecutor(1), signers=made.keys.signer, terms=None)
    with pytest.raises(ConflictError, match="was published by another aggregator"):
        federation.publish(other)


@pytest.mark.parametrize("of", ["nobody", "another number"])
def test_the_newest_release_is_found_again_whatever_was_put_into_its_place(made: RootedFederation, of: str) -> None:
    federation = made.published()
    true = made.store.get("releases/00001.json")
    forged = {
        "nobody": encode(federation.latest().model_copy(update={"created_at_s": 5.0})),
        "another number": made.store.get("releases/00000.json"),
    }[of]
    swap(made, "releases/00001.json", forged)
    made.store.put_if_absent(f"objects/{sha256(forged)}", forged)
    made.store.delete(LATEST)
    assert made.opened().channel("latest").manifest == sha256(true)
