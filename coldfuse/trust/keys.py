"""Keys: public ones as they are stored, private ones in files of their owner alone.

Nodes and aggregators sign by Ed25519, which is deterministic. Operators may bring other keys, from an HSM or a KMS (see
`signers`). The id of a key is the SHA-256 of its SubjectPublicKeyInfo, computed here and never believed: a threshold
counts ids, so one key must not have two.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import Field, field_validator

from coldfuse.core.serialization import sha256
from coldfuse.core.signature import Signature
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, UserInputError

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # it lists no names

Scheme = Literal["ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsassa-pss-sha256"]
"""How a key signs, by securesystemslib's names."""

Ask = Callable[[str], str]
"""ask(what): asks the user for a secret, such as a passphrase."""

RSA_BITS = 2048, 4096
"""Sizes of RSA keys that are believed."""

_MAX_RSA_EXPONENT = 1 << 32
"""Every key in use has 65537; with one of 3000 bits a signature takes a tenth of a second to verify."""

MAX_PEM_CHARS = 4096
"""More than any public key of these schemes takes."""

_PEM, _PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
_INFO = serialization.PublicFormat.SubjectPublicKeyInfo


class PublicKey(Value):
    """A public key, as it is stored and sent."""

    scheme: Scheme
    """How it signs."""
    pem: Annotated[str, Field(max_length=MAX_PEM_CHARS)]
    """The key's SubjectPublicKeyInfo as PEM."""

    @field_validator("pem")
    @classmethod
    def _check(cls, pem: str) -> str:
        """Refuse what is no key, and spell what is one in one way."""
        key = _load_public(pem)
        if (why := _why_unfit(key)) is not None:
            raise ValueError(why)
        return key.public_bytes(_PEM, _INFO).decode()

    @property
    def id(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo in DER, in hex."""
        return sha256(_load_public(self.pem).public_bytes(serialization.Encoding.DER, _INFO))

    @classmethod
    def from_text(cls, data: bytes, *, what: str) -> PublicKey:
        """Read a public key: PEM, or a line of OpenSSH's.

        Raises:
            UserInputError: It is none, or of a kind that verifies nothing here.
        """
        is_ssh = data.lstrip().startswith((b"ssh-", b"ecdsa-"))
        try:
            read = serialization.load_ssh_public_key if is_ssh else serialization.load_pem_public_key
            key = read(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UserInputError(f"{what}: expected a public key as PEM, or a line of OpenSSH's") from error
        if (why := _why_unfit(key)) is not None:
            raise UserInputError(f"{what}: {why}")
        scheme = _scheme_of(key)
        if scheme is None:
            raise UserInputError(f"{what}: is another kind of key; expected {_KINDS}")
        return cls(scheme=scheme, pem=key.public_bytes(_PEM, _INFO).decode())

    def verifier(self) -> SSlibKey:
        """Return the key as securesystemslib has it, under this key's id."""
        from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # it lists no names; heavy

        try:
            return SSlibKey.from_crypto(_load_public(self.pem), keyid=self.id, scheme=self.scheme)
        except ValueError as error:
            raise CodecError(f"key {self.id[:12]}: is none for {self.scheme} ({str(error)[:80]})") from error


class Signer(Protocol):
    """Whoever can sign with a private key, wherever that lies."""

    @property
    def public(self) -> PublicKey:
        """The key that verifies."""

    def sign(self, data: bytes) -> bytes:
        """Sign bytes."""


class PrivateKey:
    """A private key in this process's memory. Its `repr` shows the public key's id alone, and it cannot be pickled."""

    def __init__(self, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> PrivateKey:
        """Make a new Ed25519 key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def generate_p256(cls) -> PrivateKey:
        """Make a new ECDSA key on P-256, for signatures of model folders: their format knows no Ed25519."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_seed(cls, seed: bytes) -> PrivateKey:
        """Return the Ed25519 key of 32 secret bytes."""
        return cls(ed25519.Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_pem(cls, pem: bytes, *, what: str, ask: Ask | None = None) -> PrivateKey:
        """Read a private key: PKCS#8 PEM or OpenSSH's form.

        Args:
            pem: The file's bytes.
            what: What the errors call it.
            ask: Asks for the passphrase of a locked one; None: such a one is refused.

        Raises:
            UserInputError: It is none, is locked, or of a kind that signs nothing here.
        """
        key = _load_private(pem, what=what, ask=ask)
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return cls(key)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return cls(key)
        raise UserInputError(f"{what}: is another kind of key; expected Ed25519, or ECDSA on P-256")

    @cached_property
    def public(self) -> PublicKey:
        """The key that verifies."""
        scheme: Scheme = "ed25519" if isinstance(self._key, ed25519.Ed25519PrivateKey) else "ecdsa-sha2-nistp256"
        return PublicKey(scheme=scheme, pem=self._key.public_key().public_bytes(_PEM, _INFO).decode())

    def sign(self, data: bytes) -> bytes:
        """Sign bytes; the same bytes give the same signature."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(data)
        return self._key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))

    def pem(self) -> bytes:
        """Return the secret, as it lies in its owner's file."""
        return self._key.private_bytes(_PEM, _PKCS8, serialization.NoEncryption())

    def __repr__(self) -> str:
        """Show no secret."""
        return f"PrivateKey({self.public.id[:12]})"

    def __reduce__(self) -> str:
        """Refuse to travel: what is pickled goes to other processes and machines."""
        raise TypeError("a private key does not leave its process")


def signature_of(signer: Signer, data: bytes) -> Signature:
    """Sign bytes as they are."""
    return Signature(keyid=signer.public.id, sig=base64.b64encode(signer.sign(data)).decode())


def signature_bytes(signature: Signature) -> bytes:
    """Return a signature as bytes.

    Raises:
        CodecError: It is no base64.
    """
    return from_base64(signature.sig, what=f"the signature of key {signature.keyid[:12]}")


def from_base64(text: str, *, what: str) -> bytes:
    """Return what base64 stands for, if it is spelled in the one way that encoding spells it.

    The last letter has bits that decoding does not look at: what is signed would have several spellings.

    Raises:
        CodecError: It is no base64, or another spelling.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CodecError(f"{what} is no base64") from error
    if base64.b64encode(data).decode() != text:
        raise CodecError(f"{what} is base64 with bits that mean nothing; it was altered")
    return data


_KINDS = "Ed25519, ECDSA on P-256 or P-384, or RSA"


def _why_unfit(key: object) -> str | None:
    """Say why a key is too weak, or takes so long to verify that who shows it could keep a gateway busy."""
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    bits, exponent = key.key_size, key.public_numbers().e
    if RSA_BITS[0] <= bits <= RSA_BITS[1] and exponent < _MAX_RSA_EXPONENT:
        return None
    return (
        f"an RSA key of {bits} bits with an exponent of {exponent.bit_length()} bits; expected {RSA_BITS[0]} to "
        f"{RSA_BITS[1]} bits, and at most {_MAX_RSA_EXPONENT.bit_length() - 1} of the exponent"
    )


def _scheme_of(key: object) -> Scheme | None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePublicKey):
        curves: dict[str, Scheme] = {"secp256r1": "ecdsa-sha2-nistp256", "secp384r1": "ecdsa-sha2-nistp384"}
        return curves.get(key.curve.name)
    return "rsassa-pss-sha256" if isinstance(key, rsa.RSAPublicKey) else None


def _load_private(pem: bytes, *, what: str, ask: Ask | None, password: bytes | None = None) -> object:
    is_ssh = b"OPENSSH PRIVATE KEY" in pem
    read = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    try:
        return read(pem, password=password)
    except UnsupportedAlgorithm as error:
        raise UserInputError(
            f"{what}: is of a kind that cannot be read here ({str(error)[:80]}); for a locked key of OpenSSH: pip "
            "install bcrypt, or give a key without a passphrase"
        ) from error
    except (TypeError, ValueError) as error:
        if password is not None:
            raise UserInputError(f"{what}: the passphrase is not this key's") from error
        if not isinstance(error, TypeError) and "password" not in str(error).lower():
            raise UserInputError(f"{what}: expected a private key as PEM (PKCS#8) or of OpenSSH") from error
        if ask is None:
            raise UserInputError(
                f"{what}: is locked with a passphrase, and nobody is at a terminal to give it; give a key without one"
            ) from error
    return _load_private(pem, what=what, ask=None, password=ask(f"passphrase of {what}").encode())


def _load_public(pem: str) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(pem.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("no public key as PEM (SubjectPublicKeyInfo)") from error
    return key  # type: ignore[return-value]  # which kinds fit, `verifier` says
