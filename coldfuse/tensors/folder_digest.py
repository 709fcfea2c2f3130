"""By what a model's folder is known: the files that decide what it does, weights, configuration and tokenizer alike."""

from __future__ import annotations

import hashlib
from pathlib import Path

from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.tensors.folders import LocalFolder
from coldfuse.tensors.model_folder import find_model


def digest_of(folder: Path) -> str:
    """Return the digest of a model's folder: of the names and bytes of the files that decide what it does.

    Raises:
        UserInputError: It holds no model.
    """
    model = find_model(LocalFolder(folder))
    names = sorted({*model.plain, *model.weights})
    return sha256(canonical_json([[name, digest_of_path(folder / name)] for name in names]))


def digest_of_path(path: Path) -> str:
    """Return the digest of a file's bytes, or of the names and bytes of the files in a folder."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        return sha256(canonical_json([[file.name, digest_of_path(file)] for file in files]))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
