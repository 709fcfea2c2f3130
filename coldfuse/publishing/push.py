"""Push a verified release to the Hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coldfuse.core.model_card import is_card
from coldfuse.core.model_files import CARD_FILE, PROVENANCE_FILE, SIGNATURE_FILE, may_be_released
from coldfuse.core.release import ReleaseManifest
from coldfuse.errors import ConflictError, NotAllowedError, TrustError
from coldfuse.publishing.folder import Outgoing, outgoing
from coldfuse.publishing.hub import Held, Repository
from coldfuse.publishing.pushed import Pushed, Pushing
from coldfuse.verification.anchor import Known
from coldfuse.verification.findings import Report
from coldfuse.verification.folder import verify_folder

_EMPTY = frozenset({".gitattributes"})
"""What the Hub puts into a new repository."""

_NAMED = 3


def require_verified(folder: Path, known: Known, *, now_s: float) -> Report:
    """Return what a verification of a folder has found, if that is nothing.

    Raises:
        TrustError: Something in it is not as it should be.
        UserInputError: No release lies there whole.
    """
    report = verify_folder(folder, known, at_s=now_s)
    if report.status():
        first = next(finding for finding in report.findings if finding.cause.status == report.status())
        raise TrustError(f"{folder}: is not pushed, as it does not verify: {first}; see coldfuse verify {folder}")
    return report


def push(folder: Path, repository: Repository, pushing: Pushing) -> Pushed:
    """Push a release that lies in a verified folder: one commit, and a tag with its number.

    Pushed again, it is left as it is; a push that was killed goes on with what the Hub does not have yet.

    Args:
        folder: The folder.
        repository: Where it goes.
        pushing: How.

    Raises:
        NotAllowedError: The Hub does not allow it, or the repository is public and this is not asked for.
        ConflictError: The repository holds what coldfuse has not pushed, or a newer release.
        StorageError: The Hub did not take it.
        TransportError: It is out of reach.
    """
    manifest, files = outgoing(folder, with_provenance=pushing.with_provenance)
    plan = planned(manifest, files, repository)
    held = repository.look()
    if held is None:
        repository.create(is_private=not pushing.is_public)
        held = repository.look()
        if held is None:
            raise NotAllowedError(f"{repository.name}: was created, and cannot be read; may this token read it?")
    elif not held.is_private and not pushing.is_public:
        raise NotAllowedError(f"{repository.name}: is public; give --public to push there")
    if (there := repository.tagged(plan.tag)) is not None:
        _require_same(repository, plan, manifest, there)
        return replace(plan, commit=there, notes=(f"it is there already, as {plan.tag}",))
    if not pushing.overwrite:
        _require_ours(repository.name, held)
    if not pushing.allow_older:
        _require_newer(repository.name, manifest, held.card)
    removed = _stale(held, files)
    commit = repository.commit(files, removed, message=f"Release {manifest.release}", parent=held.commit)
    repository.tag(plan.tag, commit)
    return replace(plan, commit=commit, removed=tuple(removed))


def planned(manifest: ReleaseManifest, files: Sequence[Outgoing], repository: Repository) -> Pushed:
    """Return what a push would send."""
    return Pushed(
        release=manifest.release, repository=repository.name, branch=repository.branch,
        tag=f"release-{manifest.release}", files=tuple(files),
    )  # fmt: skip


def _require_same(repository: Repository, plan: Pushed, manifest: ReleaseManifest, commit: str) -> None:
    """Make sure that a tag names this very release."""
    card = repository.card_at(commit)
    if card is None or f"`{manifest.model_digest}`" not in card or f"`{manifest.federation}`" not in card:
        raise ConflictError(
            f"{repository.name}: {plan.tag} names something else than release {manifest.release} of this federation; "
            "remove that tag, or push into another repository"
        )


def _require_ours(name: str, held: Held) -> None:
    others = sorted(held.files - _EMPTY)
    if others and not (held.card is not None and is_card(held.card)):
        named = f"{', '.join(others[:_NAMED])}{' and more' if len(others) > _NAMED else ''}"
        raise ConflictError(
            f"{name}: holds what coldfuse has not pushed ({named}); push into an empty repository, or give --overwrite"
        )


def _require_newer(name: str, manifest: ReleaseManifest, card: str | None) -> None:
    found = re.search(r"^- release: ([0-9]{1,9})\b", card or "", re.MULTILINE)
    if card is None or not found or f"`{manifest.federation}`" not in card:
        return
    if int(found[1]) > manifest.release:
        raise ConflictError(
            f"{name}: holds release {found[1]}, and release {manifest.release} is older; give --allow-older to go back"
        )


def _stale(held: Held, files: Sequence[Outgoing]) -> list[str]:
    """Return what a release before has left there: files that only releases have."""
    ours = {each.path for each in files} | {CARD_FILE}
    signatures = {SIGNATURE_FILE, PROVENANCE_FILE}
    return sorted(
        path for path in held.files - ours
        if may_be_released(path) or path in signatures or path.startswith(".coldfuse/")
    )  # fmt: skip
