"""The folder of a private authority: its key, its certificate, and what it has given to gateways and clients."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from coldfuse.durable import explained, make_folder, sync_folder, write_whole
from coldfuse.errors import UserInputError
from coldfuse.trust.certs import Holder, Pair, PrivateKey, hosts_of, issue, make_authority, why_no_authority, why_renew

CLIENT_PREFIX = "client-"
_MAX_BYTES = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, kw_only=True)
class Given:
    """A certificate in the folder, after a run."""

    holder: Holder
    """Whom it is for."""
    until: datetime
    """When it ends."""
    why: str | None
    """Why it was made in this run; None: it was there and is good."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make the folder for this user alone, and let no other process give certificates in it meanwhile.

    Raises:
        UserInputError: The folder cannot be written, or anybody may put files into it.
    """
    with explained(folder):
        make_folder(folder, private=folder)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with explained(folder):
            if os.fstat(lock).st_mode & stat.S_IWOTH:
                raise UserInputError(f"{folder}: anybody may put files into it; choose a folder that is yours alone")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise UserInputError(f"{folder}: cannot be written; let this user write it, or choose another folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def open_authority(folder: Path, now: datetime) -> tuple[Pair, bool]:
    """Return the authority of the folder, and whether it was made now because there was none.

    Raises:
        UserInputError: The one that is there cannot be used.
    """
    cert_path, key_path = paths_of(folder, "ca")
    has_cert, has_key = cert_path.exists(), key_path.exists()
    if has_cert and not has_key:
        raise UserInputError(
            f"{key_path}: is missing, and {cert_path.name} alone gives no certificates; bring it back, or choose a "
            "new folder for another authority"
        )
    if not has_cert:  # with a key: a run was killed between the two
        authority = make_authority(now, key=_read_key(key_path) if has_key else None)
        _write_pair(folder, "ca", authority, has_key=has_key)
        return authority, True
    _require_private(key_path)
    authority = Pair(certificate=_read_certificate(cert_path), key=_read_key(key_path))
    if reason := why_no_authority(authority, now):
        raise UserInputError(
            f"{key_path}: {reason}; make another authority in a new folder, and give everybody the ca.pem of both in "
            "one file until all certificates are of the new one"
        )
    return authority, False


def holders_in(folder: Path) -> list[Holder]:
    """Return whom the folder has certificates for."""
    found = []
    for path in sorted(folder.glob("*.pem")):
        if path.stem == "ca" or not path.with_suffix(".key").exists():
            continue
        hosts = hosts_of(_read_certificate(path))
        if hosts or path.stem.startswith(CLIENT_PREFIX):
            found.append(Holder(name=path.stem.removeprefix(CLIENT_PREFIX) if not hosts else path.stem, hosts=hosts))
    return found


def give(folder: Path, authority: Pair, holder: Holder, *, now: datetime, days: int, always: bool = False) -> Given:
    """Make somebody's certificate, where there is none or the one that is there will not do for long.

    Args:
        folder: Where the authority is.
        authority: Who signs.
        holder: Whom it is for.
        now: The time.
        days: How long a new one lives.
        always: Make a new one in any case.
    """
    stem = stem_of(holder)
    pair = _read_pair(folder, stem)
    why = why_renew(pair, holder, authority, now=now) or ("as asked" if always else None)
    if pair is None or why is not None:
        pair = issue(authority, holder, now, days=days)
        _write_pair(folder, stem, pair)
    return Given(holder=holder, until=pair.certificate.not_valid_after_utc, why=why)


def stem_of(holder: Holder) -> str:
    """Return the name of somebody's files, without what stands behind the dot."""
    return holder.name if holder.is_gateway else f"{CLIENT_PREFIX}{holder.name}"


def paths_of(folder: Path, stem: str) -> tuple[Path, Path]:
    """Return the files of a certificate and its key."""
    return folder / f"{stem}.pem", folder / f"{stem}.key"


def _read_pair(folder: Path, stem: str) -> Pair | None:
    cert_path, key_path = paths_of(folder, stem)
    if not (cert_path.exists() and key_path.exists()):
        return None
    return Pair(certificate=_read_certificate(cert_path), key=_read_key(key_path))


def _write_pair(folder: Path, stem: str, pair: Pair, *, has_key: bool = False) -> None:
    """Write the key, and then the certificate; who meets them between goes on with what it has."""
    cert_path, key_path = paths_of(folder, stem)
    pem = serialization.Encoding.PEM
    if not has_key:
        secret = pair.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        _write_secret(key_path, secret)
    write_whole(cert_path, pair.certificate.public_bytes(pem))


def _write_secret(path: Path, data: bytes) -> None:
    """Write a file that its user alone can read, from its first byte on; one that it replaces keeps its owner."""
    unfinished = path.with_name(f"{path.name}.part")
    with explained(path):
        unfinished.unlink(missing_ok=True)  # of a run that was killed
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            if path.exists() and (old := path.stat()).st_uid != os.geteuid():
                os.fchown(fd, old.st_uid, old.st_gid)
            os.fsync(fd)
        os.replace(unfinished, path)
        sync_folder(path.parent)


def _require_private(path: Path) -> None:
    with explained(path, "read"):
        mode = path.stat().st_mode
    if mode & _OTHERS:
        what = "make another authority in a new folder" if path.stem == "ca" else "remove it to have a new one made"
        raise UserInputError(
            f"{path}: others than its owner may read it; {what}, or, if nobody has read it, `chmod 600 {path}`"
        )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(_read(path))
        # the rest of it is read when it is asked for, and may be damaged, too
        _ = certificate.public_key(), certificate.subject, certificate.issuer, list(certificate.extensions)
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.signature_algorithm_oid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType) as error:
        raise _damaged(path, "a certificate in PEM form") from error
    return certificate


def _read_key(path: Path) -> PrivateKey:
    _require_private(path)
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except TypeError as error:
        raise UserInputError(f"{path}: is locked with a passphrase; a key without one is needed here") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "a private key in PEM form") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise _damaged(path, "an ECDSA or RSA key")
    return key


def _damaged(path: Path, expected: str) -> UserInputError:
    return UserInputError(
        f"{path}: expected {expected}; bring it back, or remove it and its twin to have new ones made"
    )


def _read(path: Path) -> bytes:
    with explained(path, "read"), open(path, "rb") as file:
        return file.read(_MAX_BYTES)
