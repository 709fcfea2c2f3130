"""Reading what is signed from somebody who need not be trusted: never more than can be meant."""

from __future__ import annotations

from collections.abc import Callable

from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.errors import CodecError

ReadSigned = Callable[[str], bytes | None]
"""read(key): the bytes under a key of the store, such as `root/2.json`; None where there are none."""

MAX_ROOT_BYTES = 512_000
"""Size of a root's envelope at most, as TUF's clients have it."""

MAX_CHANNEL_BYTES = 16_384
"""Size of a channel's envelope at most, as TUF's clients have it of a timestamp."""

MAX_KEY_BYTES = 32_768
"""Size of the statement about a member's key at most: four times what two RSA keys and their signatures take."""

MAX_VERSIONS = 10**9
"""Number beyond which no version of anything is looked for: somebody who has an answer for each has made it up."""

_LIMITS = (("members/keys/", MAX_KEY_BYTES), ("root/", MAX_ROOT_BYTES), ("channels/", MAX_CHANNEL_BYTES))


def most_bytes(key: str) -> int:
    """Return how long what lies under a key can be.

    >>> most_bytes("channels/latest") < most_bytes("root/1.json") < most_bytes("members/1.json")
    True
    """
    return next((limit for prefix, limit in _LIMITS if key.startswith(prefix)), MAX_MANIFEST_BYTES)


def bounded(read: ReadSigned) -> ReadSigned:
    """Return a reader that refuses what is longer than what lies under its key can be, before anything parses it.

    Raises:
        CodecError: It is too long.
    """

    def read_bounded(key: str) -> bytes | None:
        data = read(key)
        limit = most_bytes(key)
        if data is not None and len(data) > limit:
            raise CodecError(f"{key}: expected at most {limit:,} bytes, and there are more; it is not read")
        return data

    return read_bounded


def find_newest(read: Callable[[int], bytes | None], least: int, data: bytes | None) -> tuple[int, bytes | None]:
    """Return the newest of versions that have no gaps, and what it holds.

    Ever longer steps, and then half as long: of a thousand versions twenty are read.

    Args:
        read: Reads a version; None where it is not there.
        least: A version that is there.
        data: What that holds, if it was read.
    """
    step = 1
    while least + step <= MAX_VERSIONS and (found := read(least + step)) is not None:
        least, data, step = least + step, found, 2 * step
    end = least + step
    while end - least > 1:
        middle = (least + end) // 2
        found = read(middle)
        least, data, end = (middle, found, end) if found is not None else (least, data, middle)
    return least, data
