"""What a user names a federation by (a store: folder or s3://…, or a gateway's address: host:port), and a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.cli.units import parse_duration
from coldfuse.core.model_files import HUB_PATTERNS
from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.gateway import Gateway
    from coldfuse.registry.federation import Federation
    from coldfuse.trust.tls import TlsFiles


def open_store_of(source: str) -> Federation:
    """Open the federation in a store."""
    from coldfuse.registry.federation import open_federation
    from coldfuse.storage import open_store

    return open_federation(open_store(source))


def tls_files(ca: Path | None, cert: Path | None, key: Path | None) -> TlsFiles | None:
    """Return the certificates that were given, if any."""
    from coldfuse.trust.tls import TlsFiles

    return TlsFiles(ca=ca, cert=cert, key=key) if ca or cert or key else None


def connect(source: str, *, tls: TlsFiles | None = None, insecure: bool = False, patience: str) -> Gateway:
    """Connect to a federation.

    Args:
        source: A store or an address.
        tls: Certificates for an address.
        insecure: Speak plain text to other hosts, too.
        patience: Duration, such as 2m, for which an address is tried while it is out of reach.
    """
    from coldfuse.transport.connect import connect

    return connect(source, tls=tls, insecure=insecure, retry_s=parse_duration(patience))


def resolve_model(base: str) -> Path:
    """Return the folder of a model; a hub id is downloaded first, safetensors and configuration only."""
    if Path(base).is_dir():
        return Path(base)
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise UserInputError(f"{base}: no such folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(base, allow_patterns=list(HUB_PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UserInputError(f"{base}: no such folder, and the hub has it not or is out of reach: {reason}") from error
