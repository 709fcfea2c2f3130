"""Certificate and key files of one end of a TLS connection."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from coldfuse.errors import UserInputError

_LONGEST_NOTICE = timedelta(days=30)
"""Time before a certificate's end from which on it is spoken of; less for one that lives for less than three months."""

_RENEW = "renew it, with `coldfuse certs` or where it came from"


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
class Validity:
    """When a certificate holds."""

    begin: datetime
    """Its first moment."""
    end: datetime
    """Its last."""


@dataclass(frozen=True, kw_only=True)
class TlsBytes:
    """The content of the files, known to fit together."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None
    validity: Validity | None = None
    """When this end's certificate holds; None without one."""

    def __repr__(self) -> str:
        """Hide the key: this value may end up in a log."""
        return "TlsBytes(...)"


def load(files: TlsFiles, now: datetime | None = None) -> TlsBytes:
    """Read and check the files, since gRPC itself reports nothing but a closed socket when one is wrong.

    Args:
        files: The files.
        now: The time at which they have to be valid; None: this moment.

    Raises:
        UserInputError: A file is missing, has expired, or is not what it should be; the message names it.
    """
    if (files.cert is None) != (files.key is None):
        given, lacking = ("certificate", "key") if files.key is None else ("key", "certificate")
        raise UserInputError(f"TLS: a {given} is given without its {lacking}; give both or neither")
    now = now or datetime.now(UTC)
    read = [_read(path) for path in (files.ca, files.cert, files.key)]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.ca is not None:
        try:
            context.load_verify_locations(cafile=files.ca)
        except OSError as error:  # also what OpenSSL says
            reason = getattr(error, "reason", None) or error
            raise UserInputError(f"{files.ca}: no certificate of an authority in PEM form ({reason})") from error
    if files.cert is not None and files.key is not None:
        _check_pair(context, files.cert, files.key)
    if read != [_read(path) for path in (files.ca, files.cert, files.key)]:  # else what was checked is not what is used
        raise UserInputError(f"TLS: {files.cert or files.ca} is being written at this moment; try again")
    ca, cert, key = read
    _require_valid(files.ca, _validities(ca), now)
    own = _validities(cert)[:1]
    _require_valid(files.cert, own, now)
    return TlsBytes(ca=ca, cert=cert, key=key, validity=own[0] if own else None)


def say_if_ending(path: Path | None, validity: Validity | None, now: datetime) -> str | None:
    """Return what is to be said of a certificate that ends soon or has ended; None while there is time.

    Soon is when a third of its life is left, and at most thirty days before.
    """
    if validity is None:
        return None
    left = validity.end - now
    if left > min((validity.end - validity.begin) / 3, _LONGEST_NOTICE):
        return None
    if left <= timedelta(0):
        return _ended(path, validity)
    when = f"in {left.days} days" if left.days > 1 else f"at {validity.end:%H:%M} UTC"
    return f"{path}: expires on {validity.end:%Y-%m-%d}, {when}; {_RENEW}"


def _ended(path: Path | None, validity: Validity) -> str:
    return f"{path}: expired on {validity.end:%Y-%m-%d at %H:%M} UTC; {_RENEW}"


def _require_valid(path: Path | None, validities: Sequence[Validity], now: datetime) -> None:
    """Refuse a file of which no certificate holds at this time; one of several authorities may have ended."""
    if not validities or any(each.begin <= now < each.end for each in validities):
        return
    last = max(validities, key=lambda each: each.end)
    if last.end <= now:
        raise UserInputError(_ended(path, last))
    raise UserInputError(
        f"{path}: is valid from {last.begin:%Y-%m-%d at %H:%M} UTC only, and here it is {now:%Y-%m-%d %H:%M}; "
        "is this machine's clock right?"
    )


def _validities(pem: bytes | None) -> list[Validity]:
    """Return when the certificates of a file hold; nothing where OpenSSL takes what `cryptography` cannot read."""
    if pem is None:
        return []
    from cryptography import x509

    try:
        certificates = x509.load_pem_x509_certificates(pem)
        return [Validity(begin=each.not_valid_before_utc, end=each.not_valid_after_utc) for each in certificates]
    except ValueError:
        return []


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise UserInputError(f"{path}: cannot be read ({error.strerror}); TLS needs this file") from error


_MAX_BYTES = 4 << 20
"""More than all authorities of a machine take."""


def _check_pair(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    def refuse_passphrase() -> str:
        raise UserInputError(f"{key}: is locked with a passphrase; a gateway or node needs a key without one")

    try:
        context.load_cert_chain(cert, key, password=refuse_passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UserInputError(f"{key}: is not the key of the certificate {cert}") from error
        raise UserInputError(f"{cert} and {key}: expected certificate and key in PEM form ({error.reason})") from error
    except OSError as error:  # they were there a moment ago
        raise UserInputError(f"{cert} and {key}: cannot be read ({error.strerror}); TLS needs these files") from error
