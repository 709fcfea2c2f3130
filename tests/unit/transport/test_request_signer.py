"""How a client signs: each try anew, for the gateway that answers, with the newest key."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from federation_keys import TinyTrust

from coldfuse.transport.signing import MAX_GATEWAYS, RequestSigner
from coldfuse.transport.status import AUTH_KEY, ERROR_KEY, GATEWAY_KEY
from coldfuse.trust.home import staged_path, write_private_key
from coldfuse.trust.identity import Identity, KeyFile
from coldfuse.trust.keys import PrivateKey
from coldfuse.trust.requests import NOBODY, parse_claim

PATH, OTHER = "/coldfuse.v1.Gateway/GetStatus", (("coldfuse-sender", "s"),)


class Refusal(grpc.RpcError):
    def __init__(self, kind: str, gateway: str | None = None) -> None:
        self.kind, self.gateway = kind, gateway

    def trailing_metadata(self):
        told = ((GATEWAY_KEY, self.gateway),) if self.gateway else ()
        return ((ERROR_KEY, self.kind), *told)


class Gateways:
    """Gateways behind one address, in turn."""

    def __init__(self, *ids: str, keyid: str | None = None) -> None:
        self.ids, self.keyid, self.claims = ids, keyid, []

    def __call__(self, headers):
        text = dict(headers)[AUTH_KEY]
        here = self.ids[len(self.claims) % len(self.ids)]
        claim = parse_claim(text)
        self.claims.append(claim)
        if claim.gateway != here:
            raise Refusal("TransportError", here)
        if self.keyid not in (None, claim.signature.keyid):
            raise Refusal("NotAllowedError")
        return headers


@pytest.fixture(scope="module")
def ada() -> Identity:
    return TinyTrust().enroll("ada")


def test_without_an_identity_nothing_is_signed():
    assert RequestSigner(None, OTHER).call(PATH, b"", lambda headers: headers) == OTHER


def test_the_gateway_says_for_whom_to_sign_and_is_remembered(ada):
    signer, gateways = RequestSigner(ada, OTHER), Gateways("a" * 32)
    for _ in range(3):
        assert signer.call(PATH, b"", gateways)[:1] == OTHER
    assert [claim.gateway for claim in gateways.claims] == [NOBODY, *["a" * 32] * 3]
    assert len({claim.nonce for claim in gateways.claims}) == 4


def test_gateways_in_turn_are_signed_for_one_after_the_other_and_not_without_end(ada):
    two = Gateways("a" * 32, "b" * 32, "b" * 32)
    assert RequestSigner(ada).call(PATH, b"", two)
    many = Gateways(*(f"{number:032x}" for number in range(1, 40)))
    with pytest.raises(Refusal):
        RequestSigner(ada).call(PATH, b"", many)
    assert len(many.claims) == MAX_GATEWAYS


def test_a_refusal_for_another_reason_is_none_to_sign_again_for(ada):
    calls = []

    def refuse(headers):
        calls.append(headers)
        raise Refusal("NotAllowedError")

    with pytest.raises(Refusal):
        RequestSigner(ada).call(PATH, b"", refuse)
    assert len(calls) == 1


def test_a_gateway_that_names_the_id_that_was_signed_for_is_not_asked_for_ever(ada):
    calls = []

    def refuse(headers):
        calls.append(headers)
        raise Refusal("TransportError", NOBODY)

    with pytest.raises(Refusal):
        RequestSigner(ada).call(PATH, b"", refuse)
    assert len(calls) == 1


@pytest.mark.parametrize("strange", ["x", "A" * 32, "a" * 31, "a" * 33, "a b", "a" * 100_000, "δ" * 32])
def test_what_is_no_id_is_not_signed(ada, strange):
    """Whoever answers may be anybody: an id is signed as it is, so nothing else goes where an id belongs."""
    calls = []

    def refuse(headers):
        calls.append(headers)
        raise Refusal("TransportError", strange)

    with pytest.raises(Refusal):
        RequestSigner(ada).call(PATH, b"", refuse)
    assert len(calls) == 1


def test_a_key_that_was_replaced_meanwhile_is_read_again(tmp_path: Path):
    path, old, new = tmp_path / "ada.pem", PrivateKey.generate(), PrivateKey.generate()
    write_private_key(path, old)
    identity = Identity("ada", "0" * 64, KeyFile(path))
    gateways = Gateways("a" * 32, keyid=old.public.id)
    signer = RequestSigner(identity)
    signer.call(PATH, b"", gateways)
    path.unlink()
    write_private_key(path, new)
    gateways.keyid = new.public.id
    assert signer.call(PATH, b"", gateways)


def test_a_key_that_waits_for_its_place_is_tried_once_and_the_reason_for_the_other_is_told(tmp_path: Path):
    path, old, waiting = tmp_path / "ada.pem", PrivateKey.generate(), PrivateKey.generate()
    write_private_key(path, old)
    write_private_key(staged_path(path), waiting)
    tried = []

    def refuse(headers):
        tried.append(parse_claim(dict(headers)[AUTH_KEY]).signature.keyid)
        refusal = Refusal("NotAllowedError")
        refusal.keyid = tried[-1]
        raise refusal

    with pytest.raises(Refusal) as caught:
        RequestSigner(Identity("ada", "0" * 64, KeyFile(path))).call(PATH, b"", refuse)
    assert tried == [old.public.id, waiting.public.id]
    assert caught.value.keyid == old.public.id
