"""What a user names a federation by (a store: folder or s3://…, or a gateway's address: host:port), and a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from coldfuse.cli.units import parse_duration
from coldfuse.core.model_files import HUB_PATTERNS
from coldfuse.errors import UserInputError

if TYPE_CHECKING:
    from coldfuse.registry.federation import Federation
    from coldfuse.storage import ObjectStore
    from coldfuse.transport.answers import ReleaseSummary, Status
    from coldfuse.transport.client import GatewayClient
    from coldfuse.trust.tls import TlsFiles

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+):\d{1,5}")


def is_address(source: str) -> bool:
    """Tell an address from a folder or a bucket: `host:port`, unless there is such a folder."""
    return _ADDRESS.fullmatch(source) is not None and not Path(source).exists()


def open_store_at(source: str) -> ObjectStore:
    """Open a store; what cannot hold one is said here, by the name that the user gave it."""
    from coldfuse.storage import open_store

    if "://" not in source:
        for path in (Path(source), *Path(source).parents):
            if path.exists() and not path.is_dir():
                raise UserInputError(f"{source}: expected a folder for the store, but {path} is a file")
    return open_store(source)


def open_store_of(source: str) -> Federation:
    """Open the federation in a store."""
    from coldfuse.registry.federation import open_federation

    return open_federation(open_store_at(source))


def read_status_of_store(federation: Federation) -> Status:
    """Say where a federation stands, without a gateway process: as a gateway would, straight from the store."""
    from concurrent.futures import ThreadPoolExecutor

    from coldfuse.transport.answers import read_status
    from coldfuse.transport.gateway import Gateway
    from coldfuse.transport.pb import gateway_pb2 as pb

    with ThreadPoolExecutor(1) as pool:
        return read_status(Gateway(federation, heads=pool).status(pb.GetStatusRequest()))


def read_history_of_store(federation: Federation) -> Iterator[ReleaseSummary]:
    """List a store's releases, newest first; each is read when it is asked for."""
    from coldfuse.transport.answers import read_summary
    from coldfuse.transport.gateway import summarize

    for number in range(federation.channel("latest").release, -1, -1):
        yield read_summary(summarize(federation.release_bytes(number)))


def tls_files(ca: Path | None, cert: Path | None, key: Path | None) -> TlsFiles | None:
    """Return the certificates that were given, if any."""
    from coldfuse.trust.tls import TlsFiles

    return TlsFiles(ca=ca, cert=cert, key=key) if ca or cert or key else None


@contextmanager
def connect(
    address: str, *, tls: TlsFiles | None = None, insecure: bool = False, patience: str
) -> Iterator[GatewayClient]:
    """Open a client of a gateway that is tried for a duration such as 2m while it is out of reach."""
    from coldfuse.transport.client import GatewayClient

    if not is_address(address):
        raise UserInputError(f"{address}: expected a gateway's address, host:port")
    with GatewayClient(address, tls=tls, insecure=insecure, patience_s=parse_duration(patience)) as client:
        yield client


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
