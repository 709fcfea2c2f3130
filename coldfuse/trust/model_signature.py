"""The signature of a model's folder, as OpenSSF model signing v1.0 has it: `model_signing verify key` accepts it.

A bundle says the SHA-256 of every file of a folder and is signed with an ECDSA key. It is written byte for byte alike
each time. Bundles from elsewhere are read as far as the specification asks of everybody: whole files, SHA-256, one key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field

from coldfuse.core.serialization import canonical_json, decode
from coldfuse.core.value import Digest, Value
from coldfuse.core.words import printable
from coldfuse.errors import SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

SIGNATURE_FILE = "model.sig"
"""Name of the file in which a folder's signature lies."""

IGNORED = (".cache", ".coldfuse", ".git", ".gitattributes", ".github", ".gitignore", SIGNATURE_FILE, "provenance.json")
"""What lies in a folder and is not signed: notes of whoever has brought it, and what is signed for itself."""

PAYLOAD_TYPE: Literal["application/vnd.in-toto+json"] = "application/vnd.in-toto+json"
"""Kind of what is signed, in the words of DSSE."""

_MEDIA_TYPE: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
_PREDICATE: Literal["https://model_signing/signature/v1.0"] = "https://model_signing/signature/v1.0"

_WHAT = "model signature"

Text = Annotated[str, Field(min_length=1, max_length=4096)]


class ModelSigner(Protocol):
    """Whoever holds the private half of an ECDSA key on P-256."""

    @property
    def public_pem(self) -> bytes:
        """Public half in PEM form, as `openssl ec -pubout` writes it."""

    def sign(self, data: bytes) -> bytes:
        """Return the signature over SHA-256 of the data, in DER form; the same each time."""


@dataclass(frozen=True, kw_only=True)
class SignedFiles:
    """What a signature says of a folder."""

    name: str
    """Name of the model, for people; the folder may have any other."""
    digests: Mapping[str, str]
    """SHA-256 of each file, by its relative POSIX path."""
    ignored: tuple[str, ...]
    """Paths of files and folders of which nothing is said."""


class _Subject(Value):
    name: Text
    digest: dict[str, str]


class _Resource(Value):
    name: Text
    digest: Digest
    algorithm: Literal["sha256"]


class _Serialization(Value):
    method: Literal["files"]
    hash_type: Literal["sha256"]
    allow_symlinks: bool
    ignore_paths: tuple[Text, ...] = ()


class _Predicate(Value):
    resources: Annotated[tuple[_Resource, ...], Field(min_length=1)]
    serialization: _Serialization


class _Statement(Value):
    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[_Subject, ...], Field(min_length=1, max_length=1)]
    predicate_type: Literal["https://model_signing/signature/v1.0"] = Field(alias="predicateType")
    predicate: _Predicate


class _Signature(Value):
    sig: Text
    keyid: str | None = None


class _Envelope(Value):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=1)]


class _PublicKey(Value):
    hint: Text


class _Material(Value):
    public_key: _PublicKey = Field(alias="publicKey")


class _Bundle(Value):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    material: _Material = Field(alias="verificationMaterial")
    envelope: _Envelope = Field(alias="dsseEnvelope")


def sign_files(digests: Mapping[str, str], *, name: str, signer: ModelSigner) -> bytes:
    """Return the bundle to be put beside a folder's files.

    Args:
        digests: SHA-256 of each file, by its relative POSIX path.
        name: What people call the model, such as `federation/12`.
        signer: Signs with the key that the folder is verified by.

    Raises:
        SignatureError: There is no file, or a path that no folder has.
    """
    for path in digests:
        _check_path(path)
    if not digests:
        raise SignatureError(f"{_WHAT}: there is no file to sign; expected those of a model's folder")
    resources = [{"algorithm": "sha256", "digest": digests[path], "name": path} for path in sorted(digests)]
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root_digest(digests)}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "resources": resources,
            "serialization": {
                "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": sorted(IGNORED),
            },
        },
    }  # fmt: skip
    payload = canonical_json(statement)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": "", "sig": base64.b64encode(signer.sign(_pae(payload))).decode()}],
    }
    material = {"publicKey": {"hint": _hint(_load(signer.public_pem))}, "tlogEntries": []}
    return canonical_json({"mediaType": _MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def read_signature(bundle: bytes, public_pem: bytes) -> SignedFiles:
    """Return what a bundle says of a folder, once it is known that the holder of a key has signed that.

    Args:
        bundle: The content of `model.sig`.
        public_pem: The key, from somewhere else than the bundle: an ECDSA key on P-256, P-384 or P-521 in PEM form.

    Raises:
        SignatureError: It is not signed with this key, or signs what no folder has.
        CodecError: It is no such bundle.
    """
    found, key = decode(_Bundle, bundle, what=_WHAT), _load(public_pem)
    if found.material.public_key.hint != _hint(key):
        raise SignatureError(
            f"{_WHAT}: made with key {printable(found.material.public_key.hint)[:16]}, expected {_hint(key)[:16]}; "
            "get the federation's key anew, or the folder from elsewhere"
        )
    payload = _unbase64(found.envelope.payload)
    _verify(key, _unbase64(found.envelope.signatures[0].sig), payload)
    statement = decode(_Statement, payload, what=f"{_WHAT}'s statement")
    names = [resource.name for resource in statement.predicate.resources]
    if names != sorted(set(names)):
        raise SignatureError(f"{_WHAT}: its files are not in order, or one is there twice; the signer is at fault")
    if statement.predicate.serialization.allow_symlinks:
        raise SignatureError(f"{_WHAT}: it allows symbolic links, which are followed nowhere here; sign plain files")
    ignored = statement.predicate.serialization.ignore_paths
    for path in (*names, *ignored):
        _check_path(path)
    digests = {resource.name: resource.digest for resource in statement.predicate.resources}
    subject = statement.subject[0]
    if subject.digest.get("sha256") != _root_digest(digests):
        raise SignatureError(f"{_WHAT}: its subject is not what its files add up to; the signer is at fault")
    return SignedFiles(name=subject.name, digests=digests, ignored=ignored)


def _check_path(path: str) -> None:
    """Refuse a path that leaves the folder, or that is another one on another machine."""
    steps = path.split("/")
    if any(step in ("", ".", "..") for step in steps) or "\\" in path or "\0" in path:
        raise SignatureError(f"{_WHAT}: {printable(path)[:200]!r} is not a path inside a folder; nothing is read there")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SignatureError(f"{_WHAT}: {ascii(path)[:200]} is no name that UTF-8 can hold; rename the file") from error


def _root_digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 over all files' digests, in the order of their paths' code points."""
    return hashlib.sha256(b"".join(bytes.fromhex(digests[path]) for path in sorted(digests))).hexdigest()


def _pae(payload: bytes) -> bytes:
    from securesystemslib.dsse import Envelope

    return Envelope(payload, PAYLOAD_TYPE, {}).pae()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"{_WHAT}: expected base64, got {printable(text[:40])!r}; it was altered") from error


def _load(public_pem: bytes) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError("model key: expected a public key in PEM form, such as `openssl` writes") from error
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        curve = getattr(getattr(key, "curve", None), "name", type(key).__name__.strip("_"))
        raise SignatureError(f"model key: expected an ECDSA key on P-256, P-384 or P-521, got {curve}")
    return key


_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""The hash that is signed with each curve's keys; only P-256 is written here."""


def _algorithm(key: EllipticCurvePublicKey) -> ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    return ECDSA(getattr(hashes, _HASHES[key.curve.name])())


def _hint(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _verify(key: EllipticCurvePublicKey, signature: bytes, payload: bytes) -> None:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, _pae(payload), _algorithm(key))
    except InvalidSignature as error:
        raise SignatureError(
            f"{_WHAT}: the signature is not that of key {_hint(key)[:16]}; bundle or files were altered, get them anew"
        ) from error
