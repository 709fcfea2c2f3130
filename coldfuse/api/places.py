"""Where models lie: folders and files of this machine, S3, and the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from coldfuse.core.base_facts import MOST_CARD_CHARS, BaseFacts, card_terms, is_hub_id
from coldfuse.core.model_files import HUB_PATTERNS
from coldfuse.errors import UserInputError
from coldfuse.tensors.folders import Location, is_remote

Place = str | os.PathLike[str]
"""A folder or file of this machine, `s3://BUCKET/PREFIX`, or the hub's id of a model."""


def locate(given: Place) -> Location:
    """Return where a model, delta or adapter lies: what is on this machine, what is in S3, and else the hub's model.

    Raises:
        UserInputError: There is none.
    """
    name = os.fspath(given)
    if name.endswith(".safetensors") or is_remote(name) or Path(name).exists():
        return locate_file(name)
    return resolve_model(name)


def locate_file(given: Place) -> Location:
    """Return where a file lies, on this machine or in S3.

    Raises:
        UserInputError: There is no such file on this machine.
    """
    name = os.fspath(given)
    if is_remote(name):
        return name
    if not Path(name).exists():
        raise UserInputError(f"{name}: no such file")
    return Path(name)


def resolve_model(base: str) -> Path:
    """Return the folder of a model; a hub id is downloaded first, without weights in other forms than safetensors.

    Raises:
        UserInputError: There is no such folder, and the hub has no such model or is out of reach.
    """
    if Path(base).is_dir():
        return Path(base)
    if Path(base).is_file():
        raise UserInputError(f"{base}: a file; expected the folder of a model, with its configuration")
    if base.startswith((".", "/", "~")) or base.count("/") > 1:
        raise UserInputError(f"{base}: no such folder")
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - takes a while, and folders need none of it
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        return Path(snapshot_download(base, allow_patterns=[*HUB_PATTERNS, "README.md"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise UserInputError(f"{base}: no such folder, and the hub has it not or is out of reach: {reason}") from error


def revision_of(folder: Path) -> str | None:
    """Return the hub's commit that a folder of its cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def facts_of(base: str, folder: Path) -> BaseFacts | None:
    """Return what a base's own card and the hub say of it; None where nothing is known.

    Args:
        base: What the user has called it.
        folder: The folder that `resolve_model` has found for it.
    """
    is_of_hub = not Path(base).is_dir() and is_hub_id(base)
    revision = revision_of(folder) if is_of_hub else None
    if revision is not None and not re.fullmatch("[0-9a-f]{40,64}", revision):
        revision = None
    facts = BaseFacts(hub_id=base if is_of_hub else None, revision=revision, **_card_terms(folder / "README.md"))
    return facts if facts != BaseFacts() else None


def _card_terms(card: Path) -> dict[str, str]:
    try:
        with open(card, encoding="utf-8", errors="replace") as file:
            return card_terms(file.read(MOST_CARD_CHARS))
    except OSError:
        return {}
