"""What was retracted, for who moves a channel: going back to an older release may bring it back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import CodecError, DamagedObjectError, FederationError

log = logging.getLogger(__name__)

ReleaseOf = Callable[[int], ReleaseManifest]
"""release_of(number): the manifest of a release, signed where it has to be.

Raises `FederationError` where there is none, `DamagedObjectError` or `CodecError` where it cannot be read.
"""


def brought_back(release_of: ReleaseOf, number: int, *, latest: int, newest: int) -> frozenset[str]:
    """Return what going back would bring back: contributions that were retracted since, and that are out by now.

    Args:
        release_of: Reads releases.
        number: Number of the release to go back to.
        latest: Number of the latest release, which `number` is compared with.
        newest: Largest number that any release has.

    Returns:
        Their digests; what cannot be read is passed over, so that a damaged release stops nobody from leaving it.
    """
    retracted = {
        digest
        for later in range(number + 1, newest + 1)
        for release in _readable(release_of, later)
        if release.retraction
        for digest in release.retraction.left_out
    }
    return frozenset((retracted & _held(release_of, number)) - _held(release_of, latest)) if retracted else frozenset()


def _held(release_of: ReleaseOf, number: int) -> set[str]:
    """Return what a release was made with: in its own round, and in those that it comes from."""
    held: set[str] = set()
    left_out: set[str] = set()
    wanted: int | None = number
    while wanted is not None:
        found = list(_readable(release_of, wanted))
        wanted = None
        for release in found:
            held |= {one.contribution for one in release.contributions}
            left_out |= set(release.retraction.left_out) if release.retraction else set()
            wanted = release.parent
    return held - left_out


def _readable(release_of: ReleaseOf, number: int) -> Iterator[ReleaseManifest]:
    try:
        yield release_of(number)
    except (FederationError, DamagedObjectError, CodecError) as error:  # numbers may be passed over
        log.info("nobody can tell what was retracted by release %d: %s", number, error)
