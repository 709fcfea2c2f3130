"""What members say of releases: every word has to be its member's, on the release that is there."""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.errors import CodecError, NotAllowedError, SignatureError
from coldfuse.storage.base import list_keys
from coldfuse.trust.check import Check, read_check, word_key
from coldfuse.trust.view import TrustView
from coldfuse.verification.causes import Cause
from coldfuse.verification.inspection import Inspection
from coldfuse.verification.releases import SeenRelease

FOLDER = "words/"


def look_at_words(look: Inspection, view: TrustView | None, *, releases: Mapping[int, SeenRelease]) -> None:
    """Look at every word of a member's. One that says that a release differs is no proof, and worth a note."""
    for key in list_keys(look.store, FOLDER):
        data = look.read(key) or b""
        if view is None:
            look.note(f"{key}: nobody's word counts where there is no root, or no list of members by it")
        elif (check := _read(look, view, data, key)) is not None:
            look.looked_at["members' words on releases"] += 1
            _look_at_word(look, check, key, releases.get(check.release))


def _read(look: Inspection, view: TrustView, data: bytes, key: str) -> Check | None:
    known = view.known()
    try:
        check, _ = read_check(view, data, now_s=look.at_s, what=key)
    except (CodecError, SignatureError) as error:
        look.error(key, error)
        return None
    except NotAllowedError as error:
        look.note(f"{key}: does not count: {error}")
        return None
    if key == word_key(check.release, check.member) and check.federation == known.fingerprint:
        return check
    look.add(Cause.CONTRADICTION, key, f"is {check.member}'s word on release {check.release}, put elsewhere")
    return None


def _look_at_word(look: Inspection, check: Check, key: str, release: SeenRelease | None) -> None:
    if release is not None and release.digest != check.manifest:
        look.add(Cause.CONTRADICTION, key, "is on another release of this number than the one that is there")
    elif not check.agrees:
        look.note(
            f"{check.member} HAS FUSED RELEASE {check.release} AGAIN, AND IT IS NOT WHAT IT SAYS: {check.difference}; "
            "--recompute shows it"
        )
