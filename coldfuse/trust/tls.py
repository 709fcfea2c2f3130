"""Certificate and key files of one end of a TLS connection."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from coldfuse.errors import UserInputError


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files. Certificate and key come together or not at all."""

    ca: Path | None = None
    """Authority that the other end's certificate must come from.

    A client without it trusts the authorities of its machine; a gateway without it asks for no client certificate."""
    cert: Path | None = None
    """Certificate chain of this end, its own certificate first."""
    key: Path | None = None
    """Private key of that certificate, without a passphrase."""


@dataclass(frozen=True, kw_only=True)
class TlsBytes:
    """The content of the files, known to fit together."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None

    def __repr__(self) -> str:
        """Hide the key: this value may end up in a log."""
        return "TlsBytes(...)"


def load(files: TlsFiles) -> TlsBytes:
    """Read and check the files, since gRPC itself reports nothing but a closed socket when one is wrong.

    Raises:
        UserInputError: A file is missing, or is not what it should be; the message names it.
    """
    if (files.cert is None) != (files.key is None):
        given, lacking = ("certificate", "key") if files.key is None else ("key", "certificate")
        raise UserInputError(f"TLS: a {given} is given without its {lacking}; give both or neither")
    loaded = TlsBytes(ca=_read(files.ca), cert=_read(files.cert), key=_read(files.key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca is not None:
        try:
            context.load_verify_locations(cafile=files.ca)
        except ssl.SSLError as error:
            raise UserInputError(f"{files.ca}: no certificate of an authority in PEM form ({error.reason})") from error
    if files.cert is not None and files.key is not None:
        _check_pair(context, files.cert, files.key)
    return loaded


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read ({error.strerror}); TLS needs this file") from error


def _check_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    def refuse_passphrase() -> str:
        raise UserInputError(f"{key}: is locked with a passphrase; a gateway or node needs a key without one")

    try:
        context.load_cert_chain(cert, key, password=refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UserInputError(f"{key}: is not the key of the certificate {cert}") from error
        raise UserInputError(f"{cert} and {key}: expected certificate and key in PEM form ({error.reason})") from error
