"""What members and strangers meet at a gateway of a federation with a root, while members come, change and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from fault.bad_network import BadNetwork
from federations import BASE_MODEL, make_delta, make_federation, make_manifest, open_round
from rooted import TrustedFederation

from coldfuse.core.blob import Part
from coldfuse.core.serialization import encode
from coldfuse.errors import (
    CodecError,
    ColdfuseError,
    ContributionRejectedError,
    GatewayBusyError,
    NotAllowedError,
    ObjectNotFoundError,
    SignatureError,
    TransportError,
    UserInputError,
)
from coldfuse.storage import LocalStore, MemoryStore
from coldfuse.transport import askers, roll
from coldfuse.transport.client import GatewayClient
from coldfuse.transport.server import GatewaySettings, RunningGateway, serve_gateway
from coldfuse.trust.check import Check
from coldfuse.trust.envelope import sign
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import Quota

PART = Part(digest="0" * 64, size_bytes=1)

SOON_S = 15.0
"""Long enough for a gateway to see what has changed in the store."""


@pytest.fixture
def trusted() -> TrustedFederation:
    trusted = TrustedFederation(MemoryStore())
    open_round(trusted.federation)
    return trusted


@pytest.fixture
def gateway(trusted: TrustedFederation) -> Iterator[RunningGateway]:
    with serve_gateway(trusted.federation) as gateway:
        yield gateway


@pytest.fixture
def connect(gateway: RunningGateway) -> Iterator[Callable[..., GatewayClient]]:
    clients: list[GatewayClient] = []

    def open_client(identity: Identity | None = None, *, retry_s: float = 0.0) -> GatewayClient:
        clients.append(GatewayClient(gateway.address, identity=identity, retry_s=retry_s))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def await_error(call: Callable[[], object], kind: type[ColdfuseError]) -> ColdfuseError:
    """Call until that fails in this way."""
    deadline_s = time.monotonic() + SOON_S
    while time.monotonic() < deadline_s:
        try:
            call()
        except kind as error:
            return error
        time.sleep(0.05)
    raise AssertionError(f"no {kind.__name__} within {SOON_S} s")


def contribute(client: GatewayClient, identity: Identity, fingerprint: str, *, seed: int = 0):
    delta = make_delta([70_000, 3], seed=seed)
    client.upload(delta.blob, delta.read_range)
    manifest = make_manifest(delta.blob, contributor=identity.name, federation=fingerprint)
    return client.commit(manifest, identity.sign(encode(manifest), "contribution"))


def test_a_member_takes_part_and_a_stranger_sees_the_root_alone(trusted, connect):
    ada = trusted.enroll("ada")
    client, stranger = connect(ada), connect()
    verdict = contribute(client, ada, trusted.keys.fingerprint)
    assert client.verdict(1, verdict.contribution) == verdict
    part = client.release(0).files["model.safetensors"].parts[0]
    buffer = bytearray(part.size_bytes)
    client.read_into(0, part.digest, memoryview(buffer))
    assert buffer == BASE_MODEL
    assert stranger.read_signed("root/1.json") == client.read_signed("root/1.json") is not None
    assert stranger.read_signed("root/2.json") is None
    for call in (stranger.status, stranger.release, lambda: stranger.read_signed("members/1.json")):
        with pytest.raises(NotAllowedError, match="closed"):
            call()


def test_enrolment_rotation_and_revocation_count_within_seconds(trusted, connect):
    trusted.invite("ada")
    statement = trusted.statement("ada", first := PrivateKey.generate())
    connect().join(statement)
    ada = Identity("ada", trusted.keys.fingerprint, first)
    client = connect(ada)
    assert client.status().name == "tiny"
    rotation = trusted.statement("ada", second := PrivateKey.generate(), number=1, before=first)
    client.join(rotation)
    client.join(rotation)  # the answer may have been lost: by the key that made it, it is success again
    assert connect(Identity("ada", trusted.keys.fingerprint, second)).status().name == "tiny"
    assert "newest key" in str(await_error(client.status, NotAllowedError))
    trusted.revoke("ada", reason="lost its key")
    newest = connect(Identity("ada", trusted.keys.fingerprint, second))
    assert "lost its key" in str(await_error(newest.status, NotAllowedError))


def test_a_key_that_another_gateway_has_bound_replaces_the_old_one_here(trusted, connect, monkeypatch):
    monkeypatch.setattr(roll, "KEYS_S", 0.5)
    ada = trusted.enroll("ada")
    client = connect(ada)
    client.status()
    with serve_gateway(trusted.federation) as other, GatewayClient(other.address, identity=ada) as there:
        there.join(trusted.statement("ada", second := PrivateKey.generate(), number=1, before=ada.signer))
    await_error(client.status, NotAllowedError)
    assert connect(Identity("ada", trusted.keys.fingerprint, second), retry_s=5.0).status().name == "tiny"


def test_joining_is_for_who_is_invited_in_time_and_once(trusted, connect):
    stranger = connect()
    with pytest.raises(NotAllowedError, match="nobody has invited"):
        stranger.join(trusted.statement("eve", PrivateKey.generate()))
    trusted.invite("late", join_by_s=time.time() - 1)
    with pytest.raises(NotAllowedError, match="invitation has expired"):
        stranger.join(trusted.statement("late", PrivateKey.generate()))
    trusted.invite("gone")
    trusted.revoke("gone", reason="lost its key")
    with pytest.raises(NotAllowedError, match="revoked"):
        stranger.join(trusted.statement("gone", PrivateKey.generate()))
    trusted.invite("ada")
    with pytest.raises(NotAllowedError, match="never theirs"):
        stranger.join(trusted.statement("ada", PrivateKey.generate(), before=PrivateKey.generate()))
    statement = trusted.statement("ada", PrivateKey.generate())
    for _ in range(2):
        stranger.join(statement)
    with pytest.raises(NotAllowedError, match="belongs to the key"):
        stranger.join(trusted.statement("ada", PrivateKey.generate()))
    with pytest.raises(CodecError):
        stranger.join(b"{}" + b" " * (1 << 20))


def test_a_key_is_followed_up_by_its_member_alone(trusted, connect):
    ada, bob = trusted.enroll("ada"), trusted.enroll("bob", "operator")
    rotation = trusted.statement("ada", PrivateKey.generate(), number=1, before=ada.signer)
    for somebody in (None, bob):
        with pytest.raises(NotAllowedError):
            connect(somebody).join(rotation)
    connect(ada).join(rotation)


def test_strangers_who_try_to_join_keep_no_member_from_changing_its_key(trusted, connect, monkeypatch):
    monkeypatch.setattr(askers, "JOINS", dict.fromkeys(askers.JOINS, 1.0))
    ada = trusted.enroll("ada")
    with serve_gateway(trusted.federation) as gateway:

        def join(identity: Identity | None, statement: bytes) -> None:
            with GatewayClient(gateway.address, identity=identity, retry_s=0.0) as client:
                client.join(statement)

        for error in (NotAllowedError, GatewayBusyError):
            with pytest.raises(error):
                join(None, trusted.statement("eve", PrivateKey.generate()))
        for number in range(1, 4):
            own = PrivateKey.generate()
            join(ada, trusted.statement("ada", own, number=number, before=ada.signer))
            ada = Identity("ada", trusted.keys.fingerprint, own)
        again = trusted.statement("ada", own, number=3, before=own)
        for _ in range(12):
            with suppress(NotAllowedError, SignatureError, GatewayBusyError):
                join(ada, again)
        with pytest.raises(GatewayBusyError, match="ada: has changed its key too often"):
            join(ada, again)


def test_nobody_contributes_as_somebody_else_or_hears_of_their_verdicts(trusted, connect):
    ada, bob, boss = trusted.enroll("ada"), trusted.enroll("bob"), trusted.enroll("boss", "operator")
    verdict = contribute(connect(ada), ada, trusted.keys.fingerprint)
    with pytest.raises(ObjectNotFoundError) as unknown:
        connect(bob).verdict(1, "0" * 64)
    with pytest.raises(ObjectNotFoundError) as foreign:
        connect(bob).verdict(1, verdict.contribution)
    assert str(foreign.value) == str(unknown.value).replace("0" * 64, verdict.contribution)
    assert connect(boss).verdict(1, verdict.contribution).contribution == verdict.contribution
    manifest = make_manifest(make_delta([5]).blob, contributor="ada", federation=trusted.keys.fingerprint)
    for somebody in (bob, boss):
        with pytest.raises(NotAllowedError, match="under their own name"):
            connect(somebody).commit(manifest, somebody.sign(encode(manifest), "contribution"))


def test_parts_belong_to_the_member_whichever_client_and_gateway_they_came_by(trusted, connect):
    ada, bob = trusted.enroll("ada"), trusted.enroll("bob")
    delta = make_delta([70_000, 3])
    first = connect(ada)
    first.upload(delta.blob, delta.read_range)
    parts = list(delta.blob.parts)
    assert connect(ada).find_missing(parts) == []
    assert connect(bob).find_missing(parts) == parts
    deadline_s = time.monotonic() + SOON_S
    with serve_gateway(trusted.federation) as other, GatewayClient(other.address, identity=ada) as there:
        while there.find_missing(parts):  # lists are written some seconds after the parts
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def test_a_members_quota_bounds_what_it_has_not_committed(trusted, connect):
    ada = trusted.enroll("ada", quota=Quota(uncommitted_bytes=100_000))
    bob = trusted.enroll("bob")
    client = connect(ada)
    first, second, large = make_delta([70_000]), make_delta([40_000], seed=1), make_delta([100_001], seed=2)
    client.upload(first.blob, first.read_range)
    with pytest.raises(GatewayBusyError, match="your quota is 100,000"):
        client.upload(second.blob, second.read_range)
    with pytest.raises(ContributionRejectedError, match="your quota"):
        client.upload(large.blob, large.read_range)
    connect(bob).upload(large.blob, large.read_range)
    manifest = make_manifest(first.blob, contributor="ada", federation=trusted.keys.fingerprint)
    client.commit(manifest, ada.sign(encode(manifest), "contribution"))
    client.upload(second.blob, second.read_range)


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("show_names", [False, True], ids=["hidden", "shown"])
def test_members_see_names_where_they_are_shown_operators_always_and_strangers_never(is_open, show_names):
    trusted = TrustedFederation(MemoryStore(), is_open=is_open)
    open_round(trusted.federation)
    ada, boss = trusted.enroll("ada"), trusted.enroll("boss", "operator")
    with serve_gateway(trusted.federation, GatewaySettings(show_names=show_names)) as gateway:

        def names(identity: Identity | None) -> tuple[str, ...]:
            with GatewayClient(gateway.address, identity=identity) as client:
                return client.status().round.contributors

        with GatewayClient(gateway.address, identity=ada) as client:
            contribute(client, ada, trusted.keys.fingerprint)
        deadline_s = time.monotonic() + SOON_S
        while names(boss) != ("ada",):
            assert time.monotonic() < deadline_s
        assert names(ada) == (("ada",) if show_names else ())
        if is_open:
            assert names(None) == ()


def test_a_gateway_that_starts_anew_is_signed_for_again_without_a_failure(tmp_path: Path):
    trusted = TrustedFederation(LocalStore(tmp_path / "store"))
    ada, troubles = trusted.enroll("ada"), []
    with serve_gateway(trusted.federation) as first:
        client = GatewayClient(first.address, identity=ada, on_trouble=troubles.append)
        assert client.status().name == "tiny"
    troubles.clear()
    with client, serve_gateway(trusted.federation, GatewaySettings(listen=first.address)):
        with suppress(TransportError):
            client.status()
        troubles.clear()  # the connection was cut; from here on there is one
        assert client.status().name == "tiny"
        assert client.find_missing([PART]) == [PART]
    assert troubles == []


def test_two_gateways_behind_one_address_are_both_signed_for(trusted, gateway):
    open_s = time.monotonic() + SOON_S
    ada, troubles = trusted.enroll("ada"), []
    with (
        serve_gateway(trusted.federation) as other,
        BadNetwork(gateway.address, other.address) as network,
        GatewayClient(network.address, identity=ada, on_trouble=troubles.append) as client,
    ):
        contribute(client, ada, trusted.keys.fingerprint)
        assert network.num_connections >= 2
        assert troubles == []
        for _ in range(3):
            network.cut()
            assert client.status().name == "tiny"
    assert time.monotonic() < open_s


def test_a_check_is_its_members_own(trusted, connect):
    ada, bob, reader = trusted.enroll("ada"), trusted.enroll("bob"), trusted.enroll("reader", "consumer")

    def check(member: str, signer: Identity, *, federation: str = trusted.keys.fingerprint, release: int = 0) -> bytes:
        said = Check(
            federation=federation, release=release, member=member, manifest="0" * 64, agrees=True, checked_at_s=0.0
        )
        return sign(encode(said), "check", [signer.signer])

    client = connect(ada)
    for _ in range(2):
        client.put_check(check("ada", ada))
    assert connect(reader).read_signed("words/00000/ada.json") == check("ada", ada)
    for wrong in (check("bob", ada), check("ada", bob), check("ada", ada, federation="0" * 64)):
        with pytest.raises((NotAllowedError, SignatureError)):
            client.put_check(wrong)
    with pytest.raises(NotAllowedError):
        client.put_check(check("bob", bob))  # signed well, and handed in by somebody else
    assert client.read_signed("words/00000/bob.json") is None


@pytest.mark.parametrize(
    "key",
    ["settings/copy.json", "objects/" + "0" * 64, "rounds/00001/head", "root/../members/1.json", "leases/aggregator",
     "uploads/sent/0/0", "root/1.json/", "/root/1.json", "root/1.json\n", "", "x" * 100_000, "channels/../root/1.json",
     "releases/00000.json", "members/keys/open-../0.json", "words/0/../x.json"],
)  # fmt: skip
def test_nothing_but_what_is_signed_can_be_had_by_key(trusted, connect, key):
    boss = trusted.enroll("boss", "operator")
    with pytest.raises(UserInputError, match="nothing that is signed"):
        connect(boss).read_signed(key)


def test_an_unknown_key_does_not_make_the_gateway_read_its_store_each_time(trusted, gateway):
    ada = trusted.enroll("ada")
    forged = [Identity("ada", trusted.keys.fingerprint, PrivateKey.generate()) for _ in range(60)]

    def knock(identity: Identity) -> str:
        with GatewayClient(gateway.address, identity=identity, retry_s=0.0) as client:
            try:
                client.status()
            except ColdfuseError as error:
                return type(error).__name__
        return "in"

    reads = _count_reads(trusted.store)
    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(knock, forged))
    assert outcomes == {"NotAllowedError", "GatewayBusyError"}
    assert len(reads) < 60
    with GatewayClient(gateway.address, identity=ada, retry_s=10.0) as client:
        assert client.status().name == "tiny"


def test_what_a_gateway_has_begun_without_a_root_is_not_served_once_there_is_one(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(roll, "ADOPTED_S", 0.1)
    federation = make_federation(LocalStore(tmp_path / "one"))
    trusted = TrustedFederation(LocalStore(tmp_path / "two"))
    with serve_gateway(federation) as gateway, GatewayClient(gateway.address) as client:
        assert client.status().name == "tiny"
        source, target = tmp_path / "two", tmp_path / "one"
        for folder in ("root", "members"):
            (target / folder).mkdir(exist_ok=True)
            for path in (source / folder).glob("*.json"):
                (target / folder / path.name).write_bytes(path.read_bytes())
        (target / "federation.json").write_bytes((source / "federation.json").read_bytes())
        assert trusted.keys.fingerprint
        assert "start it anew" in str(await_error(client.release, ColdfuseError))


def test_open_names_belong_to_their_first_key(tmp_path: Path):
    trusted = TrustedFederation(MemoryStore(), is_open=True)
    open_round(trusted.federation)
    with serve_gateway(trusted.federation) as gateway:
        first, second = PrivateKey.generate(), PrivateKey.generate()
        with GatewayClient(gateway.address, retry_s=0.0) as stranger:
            assert stranger.status().name == "tiny"
            stranger.join(trusted.statement("ada", first))
            with pytest.raises(NotAllowedError, match="belongs to the key"):
                stranger.join(trusted.statement("ada", second))
            with pytest.raises(NotAllowedError, match="signed by nobody"):
                stranger.find_missing([PART])
        ada = Identity("ada", trusted.keys.fingerprint, first)
        with GatewayClient(gateway.address, identity=ada, retry_s=0.0) as client:
            contribute(client, ada, trusted.keys.fingerprint)
        thief = Identity("ada", trusted.keys.fingerprint, second)
        with GatewayClient(gateway.address, identity=thief, retry_s=0.0) as client, pytest.raises(NotAllowedError):
            client.status()


def _count_reads(store: MemoryStore) -> list[str]:
    """Note what is read of members' keys from now on."""
    seen: list[str] = []
    get = store.get

    def counted(key: str, **range_: int) -> bytes:
        if key.startswith("members/keys/"):
            seen.append(key)
        return get(key, **range_)

    store.get = counted
    return seen
