"""Certificates for tests, as `coldfuse certs` makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from coldfuse.trust.certs import Holder
from coldfuse.trust.certs_folder import alone_in, give, open_authority, stem_of
from coldfuse.trust.tls import TlsFiles

GATEWAY = Holder(name="gateway", hosts=("localhost", "127.0.0.1"))


class Authority:
    """An authority in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ca = folder, folder / "ca.pem"
        self.renew(GATEWAY)

    def renew(self, holder: Holder, *, left: timedelta = timedelta(days=90)) -> Path:
        """Make a new certificate, of which so much is left; return where it lies, with its key beside it."""
        now = datetime.now(UTC)
        with alone_in(self.folder):
            authority, _ = open_authority(self.folder, now)
            give(self.folder, authority, holder, now=now + left - timedelta(days=90), days=90, always=True)
        return self.folder / f"{stem_of(holder)}.pem"

    def client(self, name: str, **given: timedelta) -> Path:
        """Make a client's certificate."""
        return self.renew(Holder(name=name), **given)


def files(*, cert: Path | None = None, ca: Path | None = None) -> TlsFiles:
    """Say which files one end has."""
    return TlsFiles(ca=ca, cert=cert, key=cert and cert.with_suffix(".key"))


def replace(cert: Path, by: Path) -> None:
    """Put a certificate and its key where others are, the key first."""
    for suffix in (".key", ".pem"):
        unfinished = cert.with_suffix(f"{suffix}.new")
        unfinished.write_bytes(by.with_suffix(suffix).read_bytes())
        unfinished.replace(cert.with_suffix(suffix))


def bundle(path: Path, *authorities: Authority) -> Path:
    """Write the authorities that somebody trusts."""
    unfinished = path.with_suffix(".new")
    unfinished.write_bytes(b"".join(authority.ca.read_bytes() for authority in authorities))
    unfinished.replace(path)
    return path
