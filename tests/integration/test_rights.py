"""Who may ask what: every method of every service that a gateway has, by everybody, with every wrong key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import get_args

import pytest
from federations import make_delta, make_manifest, open_round
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from rooted import TrustedFederation
from signed_calls import ANSWERED, Outcome, RawCaller

from coldfuse.core.serialization import encode
from coldfuse.storage import MemoryStore
from coldfuse.transport import askers
from coldfuse.transport.pb import gateway_pb2 as pb
from coldfuse.transport.server import serve_gateway
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.members import MemberRole
from coldfuse.trust.requests import WINDOW_S

ROLES: tuple[MemberRole, ...] = get_args(MemberRole)
REFUSED = {"NotAllowedError", "SignatureError", "UnknownKeyError", "TransportError"}

DELTA = make_delta([100])
PART = DELTA.blob.parts[0]
EVERYBODY = frozenset({*ROLES, "nobody"})
SENDERS = frozenset({"contributor", "operator"})
CHECKERS = frozenset({"contributor", "evaluator", "operator"})
MEMBERS = frozenset(ROLES)


@dataclass(frozen=True)
class Row:
    """One thing that can be asked for."""

    message: Callable[[World, str], bytes]
    """message(world, name): what a member of this name sends."""
    allowed: frozenset[str]
    """Roles that may, and "nobody" if strangers may."""
    allowed_if_open: frozenset[str] = frozenset()
    """Those that may besides where the federation is open."""
    first_only: bool = False
    """The answer never ends."""
    reads: bool = True
    """Whether the message is looked at."""


class World:
    """A federation with members of all kinds, and its gateway."""

    def __init__(self, *, is_open: bool) -> None:
        self.trusted = TrustedFederation(MemoryStore(), is_open=is_open)
        open_round(self.trusted.federation)
        self.members = {role: self.trusted.enroll(f"the-{role}", role) for role in ROLES}
        self.revoked = self.trusted.enroll("revoked", "operator")
        self.trusted.revoke("revoked", reason="lost its key")
        self.expired = self.trusted.enroll("expired", "operator", valid_until_s=time.time() + 60)
        self.trusted.change("expired", valid_until_s=time.time() - 1)
        self.trusted.invite("invited")
        self.statement = self.trusted.statement("invited", PrivateKey.generate())
        self.server = serve_gateway(self.trusted.federation)
        self.caller = RawCaller(self.server.address)
        self.caller.meet(self.members["operator"], *WAYS["GetStatus"], b"")


def manifest(world: World, name: str) -> bytes:
    return encode(make_manifest(DELTA.blob, contributor=name, federation=world.trusted.keys.fingerprint))


def said(message: object) -> Callable[[World, str], bytes]:
    return lambda _world, _name: message.SerializeToString()


ROWS: dict[str, Row] = {
    "GetStatus": Row(said(pb.GetStatusRequest()), MEMBERS, frozenset({"nobody"}), reads=False),
    "GetRelease": Row(said(pb.GetReleaseRequest(number=0)), MEMBERS, frozenset({"nobody"})),
    "ListReleases": Row(said(pb.ListReleasesRequest()), MEMBERS, frozenset({"nobody"})),
    "ReadObject": Row(said(pb.ReadObjectRequest(digest="0" * 64)), MEMBERS, frozenset({"nobody"})),
    "FindMissing": Row(said(pb.FindMissingRequest()), SENDERS),
    "UploadPart": Row(said(pb.UploadPartRequest(header=pb.Part(**PART.model_dump()))), SENDERS),
    "Commit": Row(lambda w, name: pb.CommitRequest(manifest_json=manifest(w, name)).SerializeToString(), SENDERS),
    "GetVerdict": Row(said(pb.GetVerdictRequest(round=1, contribution="0" * 64)), SENDERS),
    "GetSigned": Row(said(pb.GetSignedRequest(key="members/1.json")), MEMBERS, frozenset({"nobody"})),
    "GetSigned of a root": Row(said(pb.GetSignedRequest(key="root/1.json")), EVERYBODY),
    "Join": Row(lambda w, _: pb.JoinRequest(statement=w.statement).SerializeToString(), EVERYBODY),
    "PutCheck": Row(said(pb.PutCheckRequest(envelope=b"{}")), CHECKERS),
    "PutScore": Row(said(pb.PutScoreRequest(envelope=b"{}")), frozenset({"evaluator", "operator"})),
    "Check": Row(said(health_pb2.HealthCheckRequest()), EVERYBODY),
    "List": Row(said(health_pb2.HealthCheckRequest()), EVERYBODY),
    "Watch": Row(said(health_pb2.HealthCheckRequest()), EVERYBODY, first_only=True),
    "ServerReflectionInfo": Row(
        said(reflection_pb2.ServerReflectionRequest(list_services="*")), MEMBERS, frozenset({"nobody"})
    ),
}
"""What can be asked for, by the method's name."""

SERVICES = (
    pb.DESCRIPTOR.services_by_name["Gateway"], health_pb2.DESCRIPTOR.services_by_name["Health"],
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
)  # fmt: skip

PATHS = {method.name: f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods}
WAYS = {name: (PATHS[name.partition(" ")[0]],) for name in ROWS if name.partition(" ")[0] in PATHS}


@pytest.fixture(scope="module", params=[False, True], ids=["closed", "open"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:  # one address asks for more here than any would
        for budget in ("LOOK_UPS", "JOINS"):
            patch.setattr(askers, budget, dict.fromkeys(getattr(askers, budget), 1e6))
        world = World(is_open=request.param)
    yield world
    world.caller.close()
    world.server.stop(grace_s=0)


def ask(world: World, name: str, identity: Identity | None, **different: object) -> Outcome:
    """Ask as somebody, with a claim that is right but for the differences."""
    row, (path,) = ROWS[name], WAYS[name]
    body = row.message(world, identity.name if identity else "nobody")
    claims = [] if identity is None else [world.caller.claim(identity, path, body, **different)]
    return world.caller.ask(path, body, *claims, first_only=row.first_only)


def test_every_method_of_every_service_has_a_row():
    assert PATHS.keys() | {"List"} == {name.partition(" ")[0] for name in ROWS}  # older versions of health have no List


@pytest.mark.parametrize("name", WAYS)
def test_each_role_may_what_the_table_says_and_nothing_else(world: World, name: str):
    row = ROWS[name]
    allowed = row.allowed | (row.allowed_if_open if world.trusted.is_open else frozenset())
    found = {role: ask(world, name, world.members[role]) for role in ROLES} | {"nobody": ask(world, name, None)}
    assert {role for role, outcome in found.items() if outcome.kind not in REFUSED} == allowed, found
    assert {found[role].kind for role in found.keys() - allowed} <= {"NotAllowedError"}


@pytest.mark.parametrize("name", WAYS)
def test_former_members_are_strangers(world: World, name: str):
    row = ROWS[name]
    is_for_all = "nobody" in row.allowed | (row.allowed_if_open if world.trusted.is_open else frozenset())
    for who, reason in ((world.revoked, "lost its key"), (world.expired, "expired")):
        outcome = ask(world, name, who)
        assert outcome.kind not in REFUSED if is_for_all else outcome.kind == "NotAllowedError", outcome
        assert is_for_all or reason in outcome.sentence


@pytest.mark.parametrize("name", WAYS)
def test_a_key_of_nobody_and_a_key_of_somebody_else_are_refused_everywhere(world: World, name: str):
    operator, other = world.members["operator"], world.members["contributor"]
    unknown = Identity("the-operator", world.trusted.keys.fingerprint, PrivateKey.generate())
    borrowed = Identity("the-operator", world.trusted.keys.fingerprint, other.signer)
    nobody = Identity("who-knows", world.trusted.keys.fingerprint, PrivateKey.generate())
    assert operator.name == unknown.name
    for identity in (unknown, borrowed, nobody):
        assert ask(world, name, identity).kind in ("NotAllowedError", "GatewayBusyError")


@pytest.mark.parametrize("name", WAYS)
def test_a_request_serves_no_second_time(world: World, name: str):
    row, (path,) = ROWS[name], WAYS[name]
    operator = world.members["operator"]
    body = row.message(world, operator.name)
    claim = world.caller.claim(operator, path, body)
    assert world.caller.ask(path, body, claim, first_only=row.first_only).kind not in REFUSED
    again = world.caller.ask(path, body, claim, first_only=row.first_only)
    assert again.kind == "SignatureError"
    assert "repeats" in again.sentence


@pytest.mark.parametrize("name", WAYS)
def test_a_request_serves_nothing_else(world: World, name: str):
    operator = world.members["operator"]
    elsewhere = Identity(operator.name, "5" * 64, operator.signer)
    assert ask(world, name, elsewhere).kind == "SignatureError"  # another federation
    assert ask(world, name, operator, method="/coldfuse.v1.Gateway/Other").kind == "SignatureError"
    if ROWS[name].reads:
        assert ask(world, name, operator, message=b"another message").kind == "SignatureError"
    for late_s in (WINDOW_S + 9, -WINDOW_S - 9):
        outcome = ask(world, name, operator, now_s=time.time() - late_s)
        assert outcome.kind == "SignatureError"
        assert f"{abs(late_s):.0f} s" in outcome.sentence
    outcome = ask(world, name, operator, gateway="1" * 32)
    assert (outcome.kind, outcome.gateway) == ("TransportError", world.caller.gateway)


@pytest.mark.parametrize("name", WAYS)
def test_a_claim_that_is_altered_in_any_place_is_refused(world: World, name: str):
    (path,), operator = WAYS[name], world.members["operator"]
    body = ROWS[name].message(world, operator.name)
    claim = world.caller.claim(operator, path, body)
    fields = claim.split(" ")
    contributor = world.members["contributor"]
    altered = {
        1: contributor.name, 2: contributor.signer.public.id, 3: str(int(fields[3]) + 1), 4: "0" * 32, 6: "0" * 64,
        7: fields[7][:-6] + "AAAAA=", 0: "2",
    }  # fmt: skip
    for place, value in altered.items():
        changed = " ".join([*fields[:place], value, *fields[place + 1 :]])
        outcome = world.caller.ask(path, body, changed, first_only=ROWS[name].first_only)
        assert outcome.kind in REFUSED, (place, outcome)
    for text in ("", claim[:-1] + "!", claim + " more", "x" * 5000):
        assert world.caller.ask(path, body, text, first_only=True).kind in REFUSED, text[:40]
    assert world.caller.ask(path, body, claim, first_only=ROWS[name].first_only).kind not in REFUSED


def test_whoever_asks_twice_over_in_one_call_is_the_first(world: World):
    """A second claim in the same headers lends nobody its rights."""
    (path,), body = WAYS["FindMissing"], b""
    claims = [world.caller.claim(world.members[role], path, body) for role in ("consumer", "operator")]
    assert world.caller.ask(path, body, *claims).kind == "NotAllowedError"


def test_what_was_answered_was_answered(world: World):
    """The table's good cases are good: what is allowed is not just refused in another way."""
    for name in ("GetStatus", "GetRelease", "GetSigned", "GetSigned of a root", "Join", "FindMissing", "UploadPart"):
        outcome = ask(world, name, world.members["operator"])
        expected = "CodecError" if name == "UploadPart" else ANSWERED
        assert outcome.kind == expected, (name, outcome)
