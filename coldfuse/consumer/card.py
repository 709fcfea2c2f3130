"""The model card beside a release's files: written anew by each fetch, and never over what somebody else has written.

It lies in the folder as `README.md`. A signature over the folder's files that was made by an older version does not
leave it out, and tools that verify would refuse the folder; then it lies in the fetch's own folder.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from coldfuse.consumer.folder import OWN
from coldfuse.consumer.signatures import Signatures, SignedSource
from coldfuse.consumer.trusted import TrustedGateway
from coldfuse.core.base_facts import BaseFacts
from coldfuse.core.federation import FederationSettings
from coldfuse.core.gating import Evaluated
from coldfuse.core.model_card import CardFacts, architectures_of, model_card
from coldfuse.core.model_files import CARD_FILE, SIGNATURE_FILE
from coldfuse.core.release import ReleaseManifest
from coldfuse.core.serialization import decode, sha256
from coldfuse.durable import explained, remove_whole, write_whole
from coldfuse.errors import CodecError, ColdfuseError
from coldfuse.gateway import StoreGateway
from coldfuse.registry.settings import SETTINGS_KEY
from coldfuse.trust.model_signature import says_ignored

log = logging.getLogger(__name__)

_MOST_CARD_BYTES = 1 << 20
"""Size beyond which no card was written here."""

_MOST_CONFIG_BYTES = 1 << 20
"""Size of a configuration beyond which nothing of it is said."""


def put(out: Path, source: SignedSource, manifest: ReleaseManifest, signed: Signatures) -> None:
    """Write the card of a release into its folder, unless somebody else's lies there.

    Args:
        out: The folder, in which the release lies whole.
        source: Where the release comes from.
        manifest: Its manifest.
        signed: The signatures that lie beside it.

    Raises:
        UserInputError: It cannot be written.
    """
    text = model_card(manifest, find_facts(out, source, manifest, signed)).encode()
    path, other = out / CARD_FILE, out / OWN / CARD_FILE
    if not may_lie_beside(signed):
        path, other = other, path
    with explained(path):
        written = _read_note(out)
        there = _digest_of(path)
        if _digest_of(other) in written:
            remove_whole(other)
        if there is not None and there not in written:
            log.info("%s: is somebody's own, and stays as it is", path)
            return
        if there == sha256(text):
            return
        _write_note(out, {*written, sha256(text)})  # first, so that whatever is killed, it is known whose it is
        write_whole(path, text)
        _write_note(out, {sha256(text)})


def find_facts(out: Path, source: SignedSource, manifest: ReleaseManifest, signed: Signatures) -> CardFacts:
    """Return what a card is made from; what cannot be had is left out of it, and is no reason to fail."""
    settings, evaluated = _settings(source), _evaluation(source, manifest)
    return CardFacts(
        name=settings.name if settings else None,
        display_name=settings.display_name if settings else None,
        root=source.fingerprint if isinstance(source, TrustedGateway) else None,
        called=settings.base if settings else None,
        base=manifest.base_facts or BaseFacts(),
        architectures=architectures_of(_config(out)),
        is_signed=signed.get(SIGNATURE_FILE) is not None,
        scores=[each for each in evaluated.counts if each.evaluator is None] if evaluated else (),
        difference=evaluated.decision.difference if evaluated else None,
    )


def may_lie_beside(signed: Signatures) -> bool:
    """Tell whether a card may lie beside a release's files: a signature over them has to leave it out."""
    bundle = signed.get(SIGNATURE_FILE)
    try:
        return bundle is None or says_ignored(bundle, CARD_FILE)
    except CodecError:
        return False


def own_card(out: Path) -> Path | None:
    """Return the card that a fetch has written and nobody has changed; None where there is none."""
    written = _read_note(out)
    places = (out / CARD_FILE, out / OWN / CARD_FILE)
    return next((place for place in places if _digest_of(place) in written), None)


def _settings(source: SignedSource) -> FederationSettings | None:
    try:
        if isinstance(source, TrustedGateway):
            return source.belief.settings()
        data = source.read_signed(SETTINGS_KEY)
        return None if data is None else decode(FederationSettings, data, what=SETTINGS_KEY)
    except ColdfuseError as error:
        log.info("the model card does not name its federation: %s", error)
        return None


def _evaluation(source: SignedSource, manifest: ReleaseManifest) -> Evaluated | None:
    try:
        return source.evaluation(manifest.release) if isinstance(source, TrustedGateway | StoreGateway) else None
    except ColdfuseError as error:
        log.info("the model card says no scores: %s", error)
        return None


def _config(out: Path) -> Mapping[str, object]:
    try:
        with open(out / "config.json", "rb") as file:
            data = file.read(_MOST_CONFIG_BYTES + 1)
        found = json.loads(data) if len(data) <= _MOST_CONFIG_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _note(out: Path) -> Path:
    """Return the file that says which cards a fetch has written."""
    return out / OWN / "card.json"


def _digest_of(path: Path) -> str | None:
    """Return the digest of a file; "" for what is none, or cannot be read, and None where there is nothing."""
    if not path.is_symlink() and not path.exists():
        return None
    try:
        is_plain = path.is_file() and not path.is_symlink() and path.stat().st_size <= _MOST_CARD_BYTES
        return sha256(path.read_bytes()) if is_plain else ""
    except OSError:
        return ""


def _read_note(out: Path) -> set[str]:
    try:
        found = json.loads(_note(out).read_bytes())
    except (OSError, ValueError, RecursionError):
        return set()
    return {each for each in found if isinstance(each, str) and each} if isinstance(found, list) else set()


def _write_note(out: Path, digests: set[str]) -> None:
    write_whole(_note(out), json.dumps(sorted(digests)).encode())
