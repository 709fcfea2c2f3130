"""The settings of an S3 store, apart from the code that uses them so that reading them does not import boto3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from coldfuse.errors import UserInputError

MIN_PART_BYTES = 5 * 2**20
MAX_PART_BYTES = 5 * 2**30


@dataclass(frozen=True, kw_only=True)
class S3Settings:
    """How to reach an S3 server. Credentials are no setting: boto3 finds them (AWS_* variables, profiles, roles)."""

    endpoint_url: str | None = None
    """Address of the server; None: what AWS_ENDPOINT_URL says, and else Amazon."""
    region: str | None = None
    """Region of the bucket; None: what AWS_DEFAULT_REGION or the profile says."""
    addressing_style: Literal["path", "auto"] = "path"
    """Place of the bucket's name: `path` works with any server and no DNS; `auto` puts it into the host name where
    boto3 thinks it can."""
    request_checksum_calculation: Literal["when_required", "when_supported"] = "when_required"
    """Requests that carry a checksum; with boto3's own default, `when_supported`, they have trailers that several
    servers refuse over https (411)."""
    connect_timeout_s: float = 10.0
    """Seconds until a connection must stand."""
    read_timeout_s: float = 60.0
    """Seconds for which a connection may be silent, however long the transfer takes."""
    min_bytes_per_s: float = 1024.0
    """Slowest transfer, on average, that is waited for once `read_timeout_s` have passed."""
    num_attempts: int = 5
    """Number of times that a request is tried in all, with growing pauses."""
    max_connections: int = 32
    """Number of connections that are kept open."""
    part_bytes: int = 8 * 2**20
    """Size of the parts in which larger objects are sent, and least size of those in which they are read."""
    num_parallel_parts: int = 3
    """Number of parts of one object on their way at a time; a writer holds at most one more in memory."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later, and further from its cause."""
        if not MIN_PART_BYTES <= self.part_bytes <= MAX_PART_BYTES:
            raise UserInputError(f"part_bytes is {self.part_bytes}, S3 takes {MIN_PART_BYTES} to {MAX_PART_BYTES}")
        for name in ("connect_timeout_s", "read_timeout_s", "num_attempts", "max_connections", "num_parallel_parts"):
            if not getattr(self, name) > 0:
                raise UserInputError(f"{name} is {getattr(self, name)}, expected more than 0")
        if self.endpoint_url is not None:
            _check_endpoint(self.endpoint_url)


def _check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:  # the URL is shown in messages and logs
        raise UserInputError("endpoint_url holds a user name or password; give credentials by AWS_* variables instead")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserInputError(f"endpoint_url is {url!r}, expected http://HOST:PORT or https://HOST:PORT")
