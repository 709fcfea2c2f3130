"""By what a federation is known to this user: a fingerprint that came from its operator, and where it was found.

A gateway, or a folder on a disk that others write to, may say that it is any federation, or one that has no root at
all. So nothing is believed on first sight: the root that it hands out has to be one that is known here, by an
invitation, by having been made here, or by a fingerprint that the user has typed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coldfuse.errors import SignatureError, UnknownRootError
from coldfuse.trust.home import FederationFolder, check_fingerprint, known_federations
from coldfuse.trust.reading import ReadSigned, bounded
from coldfuse.trust.root import fingerprint_of, first_root
from coldfuse.trust.seen import Memory
from coldfuse.trust.view import root_key


@dataclass(frozen=True)
class Anchor:
    """By what a federation is known."""

    fingerprint: str
    """SHA-256 of what its first root says."""
    folder: FederationFolder = field(compare=False)
    """What this user holds of it."""


def find_anchor(read: ReadSigned, source: str, *, home: Path, root: str | None = None) -> Anchor | None:
    """Return by what a federation is known; None where it has no root, and was never known to have one.

    Args:
        read: Reads what lies under a key of it; nobody need trust it.
        source: Where it is, as the user has named it.
        home: The user's own folder.
        root: The fingerprint that the user has given; it is remembered.

    Raises:
        UnknownRootError: It has a root that nothing is known of.
        SignatureError: It is another federation than the one that was asked for, or known to be there; or pretends to
            have no root.
        UserInputError: What was given is no fingerprint.
    """
    wanted = None if root is None else check_fingerprint(root)
    place, known = place_of(source), _known(home)
    here = [anchor for anchor in known if place in _sources(anchor)]
    data = bounded(read)(root_key(1))
    if data is None:
        _require_no_root(source, wanted, here)
        return None
    found = fingerprint_of(data)
    first_root(data, wanted or found)
    anchor = Anchor(found, FederationFolder(home, found))
    if wanted is not None and anchor not in known:
        anchor.folder.pin_root(data)
    elif anchor not in known:
        raise UnknownRootError(_unknown(source, found))
    _note(anchor, place, here, is_wanted=wanted is not None)
    return anchor


def require_unknown(federation: str, source: str, *, home: Path) -> None:
    """Raise `SignatureError` if what says that it has no root calls itself by the name of one that is known here."""
    if any(anchor.fingerprint == federation for anchor in _known(home)):
        raise SignatureError(_hidden(source, federation))


def require_known(found: str | None, source: str, *, home: Path) -> None:
    """Raise `SignatureError` unless a store that this user knows is still of the federation that it was.

    Whoever can write to a store could else let those who serve it forget that anything in it has to be signed.

    Args:
        found: Fingerprint that the store says; None: it says that it has no root.
        source: Where it is, as the user has named it.
        home: The user's own folder.
    """
    place = place_of(source)
    here = [anchor for anchor in _known(home) if place in _sources(anchor)]
    if not here or found in [anchor.fingerprint for anchor in here]:
        return
    if found is None:
        raise SignatureError(_hidden(source, here[0].fingerprint))
    raise SignatureError(_other(place, here[0].fingerprint, found))


def place_of(source: str) -> str:
    """Return a source as it is remembered: folders by their whole paths, wherever the user stands."""
    if "://" in source or not Path(source).exists():
        return source.rstrip("/")
    return os.path.realpath(source)


def _known(home: Path) -> list[Anchor]:
    return [Anchor(folder.fingerprint, folder) for folder in known_federations(home)]


def _sources(anchor: Anchor) -> list[str]:
    """Return where a federation was found, and where those who have invited this user have said that it is."""
    said = [each.address for each in anchor.folder.memberships() if each.address is not None]
    return [*Memory(anchor.folder).seen().sources, *map(place_of, said)]


def _note(anchor: Anchor, place: str, here: Sequence[Anchor], *, is_wanted: bool) -> None:
    """Remember where a federation is; another one may take its place only where the user says so."""
    for other in here:
        if other != anchor and not is_wanted:
            raise SignatureError(_other(place, other.fingerprint, anchor.fingerprint))
        if other != anchor:
            Memory(other.folder).forget_source(place)
    Memory(anchor.folder).keep_source(place)


def _require_no_root(source: str, wanted: str | None, here: Sequence[Anchor]) -> None:
    if wanted is not None or here:
        raise SignatureError(_hidden(source, wanted or here[0].fingerprint))


def _other(place: str, known: str, found: str) -> str:
    return (
        f"{place}: was known as federation {known[:16]}, and answers as {found[:16]}; if that is meant, give --root "
        f"{found}"
    )


def _hidden(source: str, fingerprint: str) -> str:
    return (
        f"{source}: hands out no root, expected that of federation {fingerprint[:16]}: it is another federation, or "
        "somebody pretends that nothing there is signed"
    )


def _unknown(source: str, found: str) -> str:
    return (
        f"{source}: has the root {found[:16]}…, and nothing is known of that here; give --root FINGERPRINT as its "
        "operator says it (root= in Python), or join with an invitation: coldfuse join TOKEN_FILE"
    )
