"""A signature beside what it signs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from coldfuse.core.value import Digest, Value

MAX_SIGNATURE_CHARS = 2048
"""More than any scheme takes in base64: RSA with 4096 bits takes 684."""

Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=MAX_SIGNATURE_CHARS)]
"""Bytes in base64."""


class Signature(Value):
    """Who signed, and the signature over DSSE's pre-authentication encoding of what was signed."""

    keyid: Digest
    """SHA-256 of the key's SubjectPublicKeyInfo in DER: no two ids name one key."""
    sig: Base64
    """The signature in base64."""
