"""The signature of a model's folder, as OpenSSF model signing v1.0 has it: `model_signing verify key` accepts it.

A bundle says the SHA-256 of every file of a folder and is signed with an ECDSA key. It is written byte for byte alike
each time. Bundles from elsewhere are read as far as the specification asks of everybody: whole files, SHA-256, one key.
Source: https://github.com/ossf/model-signing-spec, version 1.0.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from coldfuse.core.model_files import CARD_FILE, PROVENANCE_FILE, SIGNATURE_FILE
from coldfuse.core.serialization import canonical_json, decode, sha256
from coldfuse.core.signature import Signature
from coldfuse.core.value import Digest, Value
from coldfuse.core.words import printable
from coldfuse.errors import CodecError, SignatureError
from coldfuse.trust.envelope import Envelope, detached, payload_type, verify_detached
from coldfuse.trust.keys import PublicKey, Signer

IGNORED = (
    ".cache", ".coldfuse", ".git", ".gitattributes", ".github", ".gitignore",
    CARD_FILE, SIGNATURE_FILE, PROVENANCE_FILE,
)  # fmt: skip
"""What lies in a folder and is not signed: notes of whoever has brought it, its card, and what is signed for itself."""

_MEDIA_TYPE: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = "application/vnd.dev.sigstore.bundle.v0.3+json"
_STATEMENT: Literal["https://in-toto.io/Statement/v1"] = "https://in-toto.io/Statement/v1"
_PREDICATE: Literal["https://model_signing/signature/v1.0"] = "https://model_signing/signature/v1.0"

_SCHEMES = "ecdsa-"
"""Beginning of the names of all schemes that the format knows."""

_WHAT = "model signature"

Text = Annotated[str, Field(min_length=1, max_length=4096)]


@dataclass(frozen=True, kw_only=True)
class SignedFiles:
    """What a signature says of a folder."""

    name: str
    """Name of the model, for people; the folder may have any other."""
    digests: Mapping[str, str]
    """SHA-256 of each file, by its relative POSIX path."""
    ignored: tuple[str, ...]
    """Paths of files and folders of which nothing is said."""
    key: PublicKey
    """The key that has signed it."""


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


class _Dsse(Value):
    payload: str
    payload_type: Literal["application/vnd.in-toto+json"] = Field(alias="payloadType")
    signatures: Annotated[tuple[_Signature, ...], Field(min_length=1, max_length=1)]


class _KeyHint(Value):
    hint: Text


class _Material(Value):
    public_key: _KeyHint = Field(alias="publicKey")


class _Bundle(Value):
    media_type: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"] = Field(alias="mediaType")
    material: _Material = Field(alias="verificationMaterial")
    envelope: _Dsse = Field(alias="dsseEnvelope")


def model_signature_key(number: int) -> str:
    """Return the key of the signature over a release's files."""
    return f"releases/{number:05d}.model.sig"


def sign_files(digests: Mapping[str, str], *, name: str, signer: Signer) -> bytes:
    """Return the bundle to be put beside a folder's files.

    Args:
        digests: SHA-256 of each file, by its relative POSIX path.
        name: What people call the model, such as `federation/12`.
        signer: The key that the folder is verified by: ECDSA, which is all that the format knows.

    Raises:
        SignatureError: There is no file, a path that no folder has, or another kind of key.
    """
    for path in digests:
        _check_path(path)
    if not digests:
        raise SignatureError(f"{_WHAT}: there is no file to sign; expected those of a model's folder")
    serialization = {
        "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": sorted(IGNORED),
    }  # fmt: skip
    resources = [{"algorithm": "sha256", "digest": digests[path], "name": path} for path in sorted(digests)]
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": root_digest(digests)}}],
        "predicateType": _PREDICATE,
        "predicate": {"resources": resources, "serialization": serialization},
    }
    payload, hint = canonical_json(statement), key_hint(signer.public)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type("provenance"),
        "signatures": [{"keyid": "", "sig": detached(payload, "provenance", signer).sig}],
    }
    material = {"publicKey": {"hint": hint}, "tlogEntries": []}
    return canonical_json({"mediaType": _MEDIA_TYPE, "verificationMaterial": material, "dsseEnvelope": envelope})


def read_signature(bundle: bytes, keys: Sequence[PublicKey]) -> SignedFiles:
    """Return what a bundle says of a folder, once it is known that the holder of a key has signed that.

    Args:
        bundle: The content of `model.sig`.
        keys: Those that may have signed it, from somewhere else than the bundle.

    Raises:
        SignatureError: None of these keys has signed it, or it signs what no folder has.
        CodecError: It is no such bundle.
    """
    found = decode(_Bundle, bundle, what=_WHAT)
    key = _key_of(found.material.public_key.hint, keys)
    payload = _verified(found.envelope, key)
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
    if subject.digest.get("sha256") != root_digest(digests):
        raise SignatureError(f"{_WHAT}: its subject is not what its files add up to; the signer is at fault")
    return SignedFiles(name=subject.name, digests=digests, ignored=ignored, key=key)


def says_ignored(bundle: bytes, path: str) -> bool:
    """Tell whether a bundle leaves a path out of what it signs, by its own word: nothing of it is verified.

    Raises:
        CodecError: It is no such bundle.
    """
    payload = decode(_Bundle, bundle, what=_WHAT).envelope.payload
    try:
        statement = decode(_Statement, base64.b64decode(payload, validate=True), what=f"{_WHAT}'s statement")
    except ValueError as error:
        raise CodecError(f"{_WHAT}: its payload is no base64; it was altered") from error
    return path in statement.predicate.serialization.ignore_paths


def root_digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 over the digests of all files, in the order of their paths' code points."""
    return hashlib.sha256(b"".join(bytes.fromhex(digests[path]) for path in sorted(digests))).hexdigest()


def key_hint(key: PublicKey) -> str:
    """Return what a bundle calls a key: the SHA-256 of its PEM form.

    Raises:
        SignatureError: The format has no such keys.
    """
    if not key.scheme.startswith(_SCHEMES):
        raise SignatureError(f"model key {key.id[:12]}: is for {key.scheme}; models are signed by ECDSA, on P-256")
    return sha256(key.pem.encode())


def _key_of(hint: str, keys: Sequence[PublicKey]) -> PublicKey:
    usable = [key for key in keys if key.scheme.startswith(_SCHEMES)] or keys  # if there is none, `key_hint` says why
    known = {key_hint(key): key for key in usable}
    if hint not in known:
        wanted = ", ".join(each[:16] for each in sorted(known)) or "no key at all"
        raise SignatureError(
            f"{_WHAT}: is made with key {printable(hint)[:16]}, expected {wanted}; get the release anew, or the "
            "federation's newest root"
        )
    return known[hint]


def _verified(envelope: _Dsse, key: PublicKey) -> bytes:
    """Return the payload, once the key is known to have signed it; the format leaves the key's id out."""
    try:
        signature = Signature(keyid=key.id, sig=envelope.signatures[0].sig)
    except ValidationError as error:
        raise CodecError(f"{_WHAT}: the signature is no base64; it was altered") from error
    whole = Envelope(payload=envelope.payload, payloadType=envelope.payload_type, signatures=(signature,))
    payload = whole.content("provenance", what=_WHAT)
    verify_detached(payload, "provenance", whole.signatures, keys=[key], what=_WHAT)
    return payload


def _check_path(path: str) -> None:
    """Refuse a path that leaves the folder, or that is another one on another machine."""
    steps = path.split("/")
    if any(step in ("", ".", "..") for step in steps) or "\\" in path or "\0" in path:
        raise SignatureError(f"{_WHAT}: {printable(path)[:200]!r} is not a path inside a folder; nothing is read there")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SignatureError(f"{_WHAT}: {ascii(path)[:200]} is no name that UTF-8 can hold; rename the file") from error
