"""Signed values under names of their own: envelopes with a seal.

The seal says no more than that a disk has kept what was written, so that a flipped bit is told from a forgery: what is
damaged is read again, and made anew from elsewhere; what is forged is named, and believed by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from pydantic import SerializerFunctionWrapHandler, model_serializer

from coldfuse.core.sealed import seal, unseal
from coldfuse.core.serialization import MAX_MANIFEST_BYTES, decode
from coldfuse.core.value import Value, without_unset
from coldfuse.errors import CodecError, NotAllowedError
from coldfuse.trust.envelope import Envelope, Kind, read_envelope, sign
from coldfuse.trust.keys import Signer


class _Shape(Value):
    payloadType: str | None = None  # noqa: N815 - DSSE's name


class _Sealed(Envelope):
    version: int | None = None
    """Version of the store's layout, for versions of coldfuse that look for nothing but that."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return without_unset(handler(self), "version")


def is_signed(data: bytes, *, what: str, limit: int = MAX_MANIFEST_BYTES) -> bool:
    """Tell whether some JSON is an envelope, by its shape; nothing is verified.

    Raises:
        CodecError: It is no JSON.
    """
    return decode(_Shape, data, what=what, limit=limit).payloadType is not None


def write_signed(
    payload: bytes,
    kind: Kind,
    signers: Iterable[Signer],
    *,
    version: int | None = None,
    limit: int = MAX_MANIFEST_BYTES,
) -> bytes:
    """Return an envelope with its seal, which is not longer than the limit."""
    return seal_signed(sign(payload, kind, signers), what=kind, version=version, limit=limit)


def seal_signed(data: bytes, *, what: str, version: int | None = None, limit: int = MAX_MANIFEST_BYTES) -> bytes:
    """Return an envelope, whoever has signed it, with its seal; raises `CodecError` if it is none, or too long."""
    return seal(_Sealed(**dict(read_envelope(data, what=what, limit=limit)), version=version))


def check_sealed(data: bytes, *, what: str, limit: int = MAX_MANIFEST_BYTES) -> None:
    """Raise `CodecError` if an envelope is not as it was written: a disk has damaged it."""
    unseal(_Sealed, data, what=what, limit=limit)


def require_no_root(data: bytes, *, what: str) -> None:
    """Raise `NotAllowedError` for what is signed, where nothing was when this process has opened the federation."""
    with suppress(CodecError):  # it is damaged, which others find
        if is_signed(data, what=what):
            raise NotAllowedError(
                f"{what}: is signed: this federation has got a root since this process was started; start it again"
            )
