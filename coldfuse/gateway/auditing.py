"""What members may read of an auditable federation beside its releases: all that a release was made from.

By itself a gateway hands out nothing of what contributors have sent. Where the operators have created a federation as
auditable, which its signed settings say before anybody contributes, every member may read the contributions that went
into a release, and the journals of the rounds, and so fuse it again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from coldfuse.core.blob import Part
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import MAX_MANIFEST_BYTES
from coldfuse.errors import CodecError, DamagedObjectError, ObjectNotFoundError
from coldfuse.registry.federation import Federation

_ENTRY = re.compile(r"rounds/[0-9]{5,9}/(?:head|journal/[0-9]{8}-[a-z]{1,20}|journal/[0-9a-f]{64}-received)")
_SENT = re.compile(r"contributions/([0-9]{1,9})/([0-9a-f]{64})\.json")


def sent_key(release: int, contribution: str) -> str:
    """Return the key by which members ask for the manifest of a contribution that went into a release."""
    return f"contributions/{release:05d}/{contribution}.json"


def is_behind(key: str) -> bool:
    """Tell whether a key is one of what lies behind a release.

    >>> is_behind("rounds/00001/head"), is_behind("objects/00"), is_behind("leases/aggregator")
    (True, False, False)
    """
    return _ENTRY.fullmatch(key) is not None or _SENT.fullmatch(key) is not None


def read_behind(federation: Federation, key: str) -> bytes | None:
    """Return what lies behind a release; None where there is nothing.

    Args:
        federation: An auditable federation.
        key: The key, one of these.

    Raises:
        CodecError: What lies there is too long for anything that belongs there.
    """
    if match := _SENT.fullmatch(key):
        release = federation.release(int(match[1]))
        if match[2] not in {fused.contribution for fused in release.contributions}:
            return None
        key = f"objects/{match[2]}"
    try:
        data = federation.store.get(key, length=2 * MAX_MANIFEST_BYTES + 1)
    except ObjectNotFoundError:
        return None
    if len(data) > 2 * MAX_MANIFEST_BYTES:
        raise CodecError(f"{key}: has more than {2 * MAX_MANIFEST_BYTES:,} bytes, which nothing has that belongs there")
    return data


def parts_behind(federation: Federation, release: ReleaseManifest) -> Iterator[Part]:
    """Return the parts of what a release was made from, and of what it keeps for the next one.

    Args:
        federation: An auditable federation.
        release: The release.
    """
    for blob in (release.outer.files if release.outer else {}).values():
        yield from blob.parts
    for fused in release.contributions:
        try:
            manifest = federation.objects.get_value(ContributionManifest, fused.contribution)
        except (DamagedObjectError, CodecError):  # who asks for its parts is told that there are none
            continue
        yield from manifest.parts
