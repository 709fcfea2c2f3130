"""A private authority, and the certificates that it gives to gateways and nodes.

They pass the strict check of X.509 that Python makes by itself since 3.13 (RFC 5280: key usage, basic constraints and
the identifiers of both keys), and that of OpenSSL's `verify -x509_strict`. A gateway's certificate serves a gateway
alone, and a client's a client: whoever steals a node's key is no gateway with it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coldfuse.trust.host_names import is_address

AUTHORITY_DAYS = 5 * 365
"""How long an authority lives: whoever trusts it has to be given the next one by hand."""

DAYS = 90
"""How long the other certificates live by default."""

_CLOCKS_DIFFER_BY = timedelta(minutes=10)
"""Certificates are valid from so long ago, for machines whose clocks are behind."""

_MAX_COMMON_NAME_CHARS = 64

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
"""Kinds of keys that gRPC takes in a certificate."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey

    def __repr__(self) -> str:
        """Say whose it is, and nothing of the key."""
        return f"Pair({self.certificate.subject.rfc4514_string()!r})"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Whom a certificate is for."""

    name: str
    """The files' name, and a client's name in its certificate."""
    hosts: tuple[str, ...] = ()
    """What a gateway is called by; empty for a client."""

    @property
    def is_gateway(self) -> bool:
        """Whether the certificate is a gateway's."""
        return bool(self.hosts)


def make_authority(now: datetime, *, key: PrivateKey | None = None) -> Pair:
    """Make an authority; its name is derived from its key, so that no two have the same.

    Args:
        now: The time.
        key: Its key; None: a new one.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = _name(f"coldfuse authority {own.digest.hex()[:8]}")
    usage = {"key_cert_sign": True, "crl_sign": True}
    builder = (
        _builder(name, name, key.public_key(), now, now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(**usage), critical=True)
        .add_extension(own, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
    )
    return Pair(certificate=builder.sign(key, hashes.SHA256()), key=key)


def issue(authority: Pair, holder: Holder, now: datetime, *, days: int = DAYS) -> Pair:
    """Make a key and its certificate, which ends before its authority does."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    end = min(now + timedelta(days=days), issuer.not_valid_after_utc)
    kind = ExtendedKeyUsageOID.SERVER_AUTH if holder.is_gateway else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(_name(_common_name(holder)), issuer.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([kind]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_identifier_of(authority), critical=False)
    )
    if holder.is_gateway:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(_general_name, holder.hosts)), critical=False)
    return Pair(certificate=builder.sign(authority.key, hashes.SHA256()), key=key)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return what a certificate's holder is called by; nothing for a client's."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def why_renew(pair: Pair | None, holder: Holder, authority: Pair, *, now: datetime) -> str | None:
    """Say why somebody needs a new certificate; None: the one that is there is good for a while."""
    if pair is None:
        return "new"
    certificate = pair.certificate
    if set(hosts_of(certificate)) != set(holder.hosts):
        return "other names"
    if not fits(certificate, pair.key):
        return "the key was not its own"
    if not is_issued_by(certificate, authority):
        return "it was of another authority"
    if is_ending(certificate, now):
        return "less than a third of its life was left"
    return None


def is_ending(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether less than a third of a certificate's life is left."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (end - now) * 3 < end - begin


def is_issued_by(certificate: x509.Certificate, authority: Pair) -> bool:
    """Tell whether an authority has signed a certificate, under the name that it has now."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def fits(certificate: x509.Certificate, key: PrivateKey) -> bool:
    """Tell whether a key is the certificate's."""
    return _public_bytes(certificate.public_key()) == _public_bytes(key.public_key())


def why_no_authority(pair: Pair, now: datetime) -> str | None:
    """Say why a certificate and a key cannot be used as an authority; None where they can."""
    certificate = pair.certificate
    if not fits(certificate, pair.key):
        return "is not the key of the certificate beside it"
    if not _may_sign(certificate):
        return "belongs to a certificate that is no authority's"
    if certificate.not_valid_after_utc <= now:
        return f"belongs to an authority that expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if certificate.not_valid_before_utc > now:
        return (
            f"belongs to an authority that begins on {certificate.not_valid_before_utc:%Y-%m-%d}; is the clock right?"
        )
    return None


def _may_sign(certificate: x509.Certificate) -> bool:
    extensions = certificate.extensions
    try:
        return (
            extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            and extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        )
    except x509.ExtensionNotFound:
        return False


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER_BY)
        .not_valid_after(end)
    )


def _identifier_of(authority: Pair) -> x509.AuthorityKeyIdentifier:
    try:
        own = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=key_cert_sign, crl_sign=crl_sign, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _common_name(holder: Holder) -> str:
    if not holder.is_gateway:
        return holder.name
    return holder.hosts[0] if len(holder.hosts[0]) <= _MAX_COMMON_NAME_CHARS else "coldfuse gateway"


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(host)) if is_address(host) else x509.DNSName(host)


def _public_bytes(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]  # every public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
