"""DSSE envelopes: a payload, its type, and signatures over both.

The payload is signed as the bytes that are stored, so no canonical form has to be agreed on; the type is signed, too,
so that what was signed as one thing is never taken for another. The work is securesystemslib's; here is what comes
before it: bounds, strict JSON, and key ids that are computed. It is imported where it is used: who signs nothing can do
without the 20 MB that it takes.
Source: https://github.com/secure-systems-lab/dsse, protocol version 1.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode, encode
from coldfuse.core.signature import Signature
from coldfuse.core.value import Value
from coldfuse.errors import CodecError, SignatureError, UnknownKeyError
from coldfuse.trust.keys import PublicKey, Signer, from_base64, signature_bytes, signature_of

Kind = Literal[
    "root",
    "federation",
    "members",
    "member-key",
    "channel",
    "journal",
    "contribution",
    "check",
    "score",
    "lot",
    "provenance",
    "request",
    "tombstone",
    "collected",
]
"""What is signed."""

MAX_ENTRY_BYTES = 2 * MAX_MANIFEST_BYTES
"""Length of a journal's entry at most, as much as is read of a pointer: whoever opens a round may carry ten thousand
signed contributions, in base64. Nothing else is that long."""

MAX_SIGNATURES = 32
"""Signatures of one envelope: more than any threshold needs."""

_TYPES: dict[str, str] = {"provenance": "application/vnd.in-toto+json"}


def payload_type(kind: Kind) -> str:
    """Return the type that is signed with a payload.

    >>> payload_type("channel")
    'application/vnd.coldfuse.channel+json'
    """
    return _TYPES.get(kind, f"application/vnd.coldfuse.{kind}+json")


class Envelope(Value):
    """An envelope as JSON; nothing in it is verified."""

    payload: str
    """The payload in base64."""
    payloadType: Annotated[str, Field(max_length=200)]  # noqa: N815 - DSSE's name
    """What the payload is."""
    signatures: Annotated[tuple[Signature, ...], Field(max_length=MAX_SIGNATURES)]
    """Signatures, of keys in any order."""

    def content(self, kind: Kind, *, what: str) -> bytes:
        """Return the payload, unverified.

        Raises:
            CodecError: It is another kind of thing, or no base64.
        """
        if self.payloadType != payload_type(kind):
            raise CodecError(f"{what}: is signed as {self.payloadType[:80]!r}, expected {payload_type(kind)!r}")
        return from_base64(self.payload, what=f"{what}: its payload")


def sign(payload: bytes, kind: Kind, signers: Iterable[Signer]) -> bytes:
    """Return an envelope's bytes, with a signature of each signer."""
    return envelope_of(payload, kind, [detached(payload, kind, signer) for signer in signers])


def detached(payload: bytes, kind: Kind, signer: Signer) -> Signature:
    """Return a signature over a payload and its kind, for where the payload lies elsewhere."""
    from securesystemslib.dsse import Envelope as Dsse

    return signature_of(signer, Dsse(payload, payload_type(kind), {}).pae())


def read_envelope(data: bytes, *, what: str, limit: int = MAX_MANIFEST_BYTES) -> Envelope:
    """Parse an envelope, verifying nothing.

    Raises:
        CodecError: It is longer than the limit, or no envelope.
    """
    return decode(Envelope, data, what=what, limit=limit)


def verified(data: bytes, kind: Kind, keys: Sequence[PublicKey], *, what: str, threshold: int = 1) -> bytes:
    """Return an envelope's payload, once enough of these keys have signed it.

    Args:
        data: The envelope's bytes.
        kind: What it has to be.
        keys: Keys that may sign; one that is there twice counts once.
        what: What the errors call it.
        threshold: How many of them must have signed.

    Raises:
        CodecError: It is no envelope of this kind.
        UnknownKeyError: Too few of these keys have signed it.
        SignatureError: A signature of theirs does not fit.
    """
    envelope = read_envelope(data, what=what, limit=MAX_ENTRY_BYTES if kind == "journal" else MAX_MANIFEST_BYTES)
    payload = envelope.content(kind, what=what)
    verify_detached(payload, kind, envelope.signatures, keys=keys, threshold=threshold, what=what)
    return payload


def verify_detached(
    payload: bytes,
    kind: Kind,
    signatures: Sequence[Signature],
    *,
    keys: Sequence[PublicKey],
    what: str,
    threshold: int = 1,
) -> None:
    """Raise `SignatureError` unless enough of these keys have signed a payload of this kind."""
    if len({each.keyid for each in signatures}) < len(signatures):
        raise CodecError(f"{what}: one key has signed it twice")
    known = {key.id: key for key in keys}
    wanted = [each for each in signatures if each.keyid in known]
    if len(wanted) < threshold:
        raise UnknownKeyError(_too_few(what, len(wanted), threshold, known, signatures))
    from securesystemslib.dsse import Envelope as Dsse
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
    from securesystemslib.signer import Key as VerifyingKey  # type: ignore[attr-defined]  # it lists no names
    from securesystemslib.signer import Signature as PlainSignature  # type: ignore[attr-defined]

    by_id = {each.keyid: PlainSignature(each.keyid, signature_bytes(each).hex()) for each in wanted}
    try:
        verifiers: list[VerifyingKey] = [known[keyid].verifier() for keyid in by_id]
        Dsse(payload, payload_type(kind), by_id).verify(verifiers, threshold)
    except (VerificationError, UnverifiedSignatureError, ValueError) as error:
        raise SignatureError(f"{what}: a signature does not fit what it says; it was altered or forged") from error


def _too_few(
    what: str, found: int, threshold: int, known: dict[str, PublicKey], signatures: Sequence[Signature]
) -> str:
    signers = ", ".join(each.keyid[:12] for each in signatures) or "nobody"
    wanted = ", ".join(keyid[:12] for keyid in sorted(known)) or "no key at all"
    return f"{what}: is signed by {signers}; expected {threshold} of {wanted}, and {found} of these have signed"


def envelope_of(payload: bytes, kind: Kind, signatures: Iterable[Signature]) -> bytes:
    """Return an envelope's bytes, of signatures that were made elsewhere."""
    return encode(
        Envelope(
            payload=base64.b64encode(payload).decode(),
            payloadType=payload_type(kind),
            signatures=tuple(sorted(signatures, key=lambda each: each.keyid)),
        )
    )
