"""What a gateway holds at a time, as a function of the memory that it may take.

Three parts, beside what the process itself needs. **Transfers**: uploads and downloads, each at its most. **Messages**:
calls whose request is on its way; flow control lets a message in only when somebody reads it, so none is read without a
turn. **Waiting**: calls that were opened and wait, for which HTTP/2 lets the first bytes in before anybody reads; as
many again that have come and that nobody has looked at; and connections. Whatever comes beyond these waits at its
sender, or is told to come again.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

from coldfuse.errors import UserInputError
from coldfuse.transport.channel import MAX_CHUNK_BYTES, WINDOW_BYTES

DEFAULT_MEMORY_BYTES = 256 << 20
MIN_MEMORY_BYTES = 128 << 20

_PROCESS_BYTES = 96 << 20
"""Python, gRPC, pydantic, boto3 and cryptography with their threads, measured, and some air."""

_TRANSFERS, _MESSAGES, _CALLS, _CONNECTIONS = 0.5, 0.15, 0.15, 0.2
"""Shares of the rest."""

_CALL_BYTES = WINDOW_BYTES + (24 << 10)
"""What a call costs that waits: its window, and what gRPC and asyncio know of it (measured)."""

_CONNECTION_BYTES = 16 << 10
"""What a silent connection costs, measured."""

_OTHER_FILES = 256
"""Descriptors that are no connections: the store's files and sockets, and the process's own."""

UPLOAD_BYTES = 3 * MAX_CHUNK_BYTES + WINDOW_BYTES
"""What an upload holds at its most: one chunk that is written while the next one arrives, and half as much again for
the holes that blocks of all sizes leave in malloc's heap (measured)."""

BLOCK_BYTES = 1 << 20
"""Read at once for a download: a range request to S3 costs a round trip, and four streams of a client hide it."""

DOWNLOAD_BYTES = 4 * BLOCK_BYTES
"""What a download holds at its most: a block that is sent, gRPC's copy of it, and the next one that is read; and
holes."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a gateway holds at a time."""

    transfers_bytes: int
    """What uploads and downloads may hold together."""
    messages_bytes: int
    """What requests that are read may hold together."""
    max_calls: int
    """Maximum number of calls that run or wait; half of them for one caller while others call, too."""
    max_connections: int
    """Maximum number of connections."""


def limits_within(memory_bytes: int, *, max_files: int | None = None) -> Limits:
    """Return what fits into the memory.

    Args:
        memory_bytes: What the gateway's process may take.
        max_files: Number of descriptors that the process may have; None: what the system says.

    Raises:
        UserInputError: It is too little, of memory or of descriptors.

    >>> limits_within(256 << 20, max_files=20_000).max_calls
    438
    """
    if memory_bytes < MIN_MEMORY_BYTES:
        raise UserInputError(
            f"--memory: a gateway needs {MIN_MEMORY_BYTES >> 20}MiB or more, {memory_bytes >> 20}MiB were given"
        )
    files = raise_file_limit() if max_files is None else max_files
    if files <= _OTHER_FILES:
        raise UserInputError(
            f"this process may open {files} files and connections, a gateway needs more than {_OTHER_FILES}; raise the "
            "limit (ulimit -n)"
        )
    rest_bytes = memory_bytes - _PROCESS_BYTES
    return Limits(
        transfers_bytes=int(_TRANSFERS * rest_bytes),
        messages_bytes=int(_MESSAGES * rest_bytes),
        max_calls=int(_CALLS * rest_bytes) // _CALL_BYTES,
        max_connections=min(int(_CONNECTIONS * rest_bytes) // _CONNECTION_BYTES, files - _OTHER_FILES),
    )


def raise_file_limit() -> int:
    """Let this process open as many files as the system permits it to, and return how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # macOS has a limit of its own below the one that it tells
            return soft
    return most
