"""Keys: public ones as they are stored, private ones in files of their owner alone.

Nodes and aggregators sign by Ed25519, which is deterministic. Operators may bring other keys, from an HSM or a KMS (see
`signers`). The id of a key is the SHA-256 of its SubjectPublicKeyInfo, computed here and never believed: a threshold
counts ids, so one key must not have two.
"""

from __future__ import annotations

import base64
import binascii
from functools import cached_property
from typing import Annotated, Literal, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from pydantic import Field, field_validator
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # it lists no names

from coldfuse.core.serialization import sha256
from coldfuse.core.signature import Signature
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, UserInputError

Scheme = Literal["ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsassa-pss-sha256"]
"""How a key signs, by securesystemslib's names."""

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
        return _load_public(pem).public_bytes(_PEM, _INFO).decode()

    @property
    def id(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo in DER, in hex."""
        return sha256(_load_public(self.pem).public_bytes(serialization.Encoding.DER, _INFO))

    def verifier(self) -> SSlibKey:
        """Return the key as securesystemslib has it, under this key's id."""
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
    def from_pem(cls, pem: bytes, *, what: str) -> PrivateKey:
        """Read a private key: PKCS#8 PEM or OpenSSH's form, without a passphrase.

        Raises:
            UserInputError: It is none, is locked, or of a kind that signs nothing here; the message names `what`.
        """
        is_ssh = b"OPENSSH PRIVATE KEY" in pem
        try:
            read = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
            key = read(pem, password=None)
        except TypeError as error:
            raise UserInputError(f"{what}: is locked with a passphrase; give a key without one") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            if "encrypted" in str(error).lower() or "password" in str(error).lower():
                raise UserInputError(f"{what}: is locked with a passphrase; give a key without one") from error
            raise UserInputError(f"{what}: expected a private key as PEM (PKCS#8) or of OpenSSH") from error
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
    try:
        return base64.b64decode(signature.sig, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CodecError(f"the signature of key {signature.keyid[:12]} is no base64") from error


def _load_public(pem: str) -> ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(pem.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("no public key as PEM (SubjectPublicKeyInfo)") from error
    return key  # type: ignore[return-value]  # which kinds fit, `verifier` says
