"""What a signed request says, for whom it counts, and for how long it is remembered."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from federation_keys import NOW_S, TinyTrust
from pydantic import ValidationError

from coldfuse.errors import CodecError, GatewayBusyError, SignatureError, UserInputError
from coldfuse.trust.identity import Identity
from coldfuse.trust.keys import PrivateKey, PublicKey
from coldfuse.trust.requests import WINDOW_S, Claim, Nonces, parse_claim, sign_request

PATH, GATEWAY = "/coldfuse.v1.Gateway/Commit", "a" * 32


@pytest.fixture(scope="module")
def ada() -> Identity:
    return TinyTrust().enroll("ada")


def claim(identity: Identity, *, now_s: float = NOW_S, nonce: int = 0, body: bytes = b"body") -> Claim:
    text = sign_request(identity, PATH, body=body, gateway=GATEWAY, now_s=now_s, nonce=nonce.to_bytes(16))
    return parse_claim(text)


def test_what_was_signed_is_verified(ada: Identity) -> None:
    found = claim(ada)
    found.require_time(now_s=NOW_S)
    found.verify(PATH, ada.federation, ada.signer.public)
    found.require_body(b"body")
    assert (found.name, found.time_ms, found.gateway) == ("ada", NOW_S * 1000, GATEWAY)


def test_every_scheme_of_keys_signs_requests() -> None:
    identity = Identity("ada", "0" * 64, PrivateKey.generate_p256())
    claim(identity).verify(PATH, "0" * 64, identity.signer.public)


def test_another_method_federation_key_or_message_is_none_that_was_signed(ada: Identity) -> None:
    found = claim(ada)
    for path, federation, key in (
        (PATH.replace("Commit", "Join"), ada.federation, ada.signer.public),
        (PATH, "0" * 64, ada.signer.public),
        (PATH, ada.federation, PrivateKey.generate().public),
    ):
        with pytest.raises(SignatureError):
            found.verify(path, federation, key)
    with pytest.raises(SignatureError, match="another message"):
        found.require_body(b"body ")


def test_a_signature_over_something_else_is_no_request(ada: Identity) -> None:
    text = sign_request(ada, PATH, body=b"", gateway=GATEWAY, now_s=NOW_S, nonce=bytes(16))
    other = ada.sign(b"{}", "contribution")
    with pytest.raises(SignatureError):
        parse_claim(" ".join([*text.split(" ")[:-1], other.sig])).verify(PATH, ada.federation, ada.signer.public)


@pytest.mark.parametrize("late_s", [WINDOW_S + 1, -WINDOW_S - 1, 86400.0])
def test_a_clock_that_is_off_is_told_by_how_much(ada: Identity, late_s: float) -> None:
    with pytest.raises(SignatureError, match=f"{abs(late_s):.0f} s {'before' if late_s > 0 else 'after'}"):
        claim(ada, now_s=NOW_S - late_s).require_time(now_s=NOW_S)
    claim(ada, now_s=NOW_S - WINDOW_S).require_time(now_s=NOW_S)
    claim(ada, now_s=NOW_S + WINDOW_S).require_time(now_s=NOW_S)


def test_no_text_but_a_claim_is_read(ada: Identity) -> None:
    text = sign_request(ada, PATH, body=b"", gateway=GATEWAY, now_s=NOW_S, nonce=bytes(16))
    rng = random.Random(1)
    seen = {"read": 0, "refused": 0}
    for _ in range(1000):
        place, kind = rng.randrange(len(text)), rng.randrange(3)
        mutant = text[:place] + rng.choice(("", chr(rng.randrange(1, 300)), text)) + text[place + kind :]
        try:
            parse_claim(mutant).verify(PATH, ada.federation, ada.signer.public)
        except (SignatureError, CodecError):  # the latter where it is no base64
            seen["refused"] += 1
        else:
            assert mutant == text
            seen["read"] += 1
    assert seen["refused"] > 700
    for nothing in ("", " ", "1", text + "\n", "\n" + text, text.upper(), text.replace("1 ", "2 ", 1), text * 9):
        with pytest.raises(SignatureError):
            parse_claim(nothing)


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def bare(name: str, nonce: int, *, at_s: float = NOW_S) -> Claim:
    """A claim that was verified, as far as nonces know."""
    signature = claim(_SOMEBODY).signature
    return Claim(
        name=name, time_ms=int(at_s * 1000), nonce=f"{nonce:032x}", gateway=GATEWAY, body="0" * 64, signature=signature
    )


_SOMEBODY = Identity("somebody", "0" * 64, PrivateKey.generate())


def test_a_request_counts_once_for_as_long_as_its_time_is_believed() -> None:
    clock = Clock()
    nonces, request = Nonces(clock), bare("ada", 1, at_s=NOW_S + WINDOW_S)
    nonces.use(request)
    for later_s in (0.0, WINDOW_S, 2 * WINDOW_S):
        clock.now_s = NOW_S + later_s
        with pytest.raises(SignatureError, match="repeats"):
            nonces.use(request)
    nonces.use(bare("bob", 1, at_s=clock.now_s))  # one member's nonces are nothing to another
    clock.now_s = NOW_S + 3 * WINDOW_S
    nonces.use(bare("bob", 2, at_s=clock.now_s))
    assert len(nonces) == 2  # the first is forgotten, as its time is refused before anybody asks


@pytest.mark.parametrize("num_members", [1, 3, 500])
def test_memory_is_bounded_and_nothing_that_was_forgotten_counts_again(num_members: int) -> None:
    nonces, rng = Nonces(Clock(), max_all=200, max_one=80), random.Random(num_members)
    used, refused = [], 0
    for number in range(1200):
        request = bare(f"m{rng.randrange(num_members)}", number, at_s=NOW_S + rng.uniform(-WINDOW_S, WINDOW_S))
        try:
            nonces.use(request)
            used.append(request)
        except GatewayBusyError:
            refused += 1
        assert len(nonces) <= 200
    assert refused
    for request in used:
        with pytest.raises((SignatureError, GatewayBusyError)):
            nonces.use(request)


def test_who_floods_forgets_their_own() -> None:
    """Also with times that lie ahead, which are the last to be forgotten."""
    nonces = Nonces(Clock(), max_all=300, max_one=100)
    others = [bare(f"m{number}", number) for number in range(20)]
    for request in others:
        nonces.use(request)
    for number in range(1500):
        try:
            nonces.use(bare(f"greedy{number % 5}", number, at_s=NOW_S + WINDOW_S - number % 7))
        except GatewayBusyError:
            continue
    assert len(nonces) <= 300
    for number in range(20):  # whoever asks now and then is served
        nonces.use(bare(f"m{number}", 10_000 + number, at_s=NOW_S + 1))


@pytest.mark.parametrize(
    ("bits", "exponent"), [(1024, 65537), (8192, 65537), (3072, (1 << 3000) | 1), (2048, 1 << 33 | 1)]
)
def test_a_key_that_takes_long_to_verify_is_none(bits: int, exponent: int) -> None:
    """Whoever joins names their key, and the gateway verifies with it at every call."""
    modulus = (1 << (bits - 1)) | (1 << 5) | 1
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ValidationError, match="an RSA key of"):
        PublicKey(scheme="rsassa-pss-sha256", pem=pem.decode())
    with pytest.raises(UserInputError, match="an RSA key of"):
        PublicKey.from_text(pem, what="the key")


def test_an_ordinary_rsa_key_is_one() -> None:
    for bits in (2048, 4096):
        key = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | (1 << 5) | 1).public_key()
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        assert PublicKey.from_text(pem, what="the key").scheme == "rsassa-pss-sha256"
