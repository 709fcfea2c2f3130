"""A folder of data files: which of its files are read, if that can be told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from coldfuse.data.words import listing
from coldfuse.errors import UserInputError

_KINDS = {
    ".csv": "CSV", ".tsv": "TSV", ".tab": "TSV", ".jsonl": "JSON lines", ".ndjson": "JSON lines", ".json": "JSON",
    ".parquet": "Parquet", ".pq": "Parquet", ".arrow": "Arrow", ".feather": "Arrow",
}  # fmt: skip
DOCUMENT_ENDINGS = (".txt", ".text", ".md", ".markdown")
"""Endings of plain text files, each of which may be a document."""
TOKEN_ENDINGS = (".conll", ".conll2002", ".conll2003", ".conllu", ".bio", ".iob", ".iob2", ".bioes")
"""Endings of files with a token a line."""
PACKED = (".gz", ".bz2", ".xz")
"""Endings that only say how a file is packed."""
_NO_DATA = {
    "card.json", "config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "metadata.json",
    "package.json", "state.json",
}  # fmt: skip
"""Files that speak of data, or of something else."""
_STATE, _STATE_BYTES = "state.json", 16 << 20
_PARTS = re.compile(r"(?:^|[^a-z])(train|training|test|dev|val|valid|validation|eval)(?:[^a-z]|$)")
_SAME_PART = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation", "eval": "test"}


def files_of(folder: Path, *, also: Sequence[str] = ()) -> list[Path]:
    """Return a folder's data files in the order of their names.

    Args:
        folder: The folder.
        also: Endings of files that are data where there are no tables, such as `.txt`.

    Raises:
        UserInputError: It holds none, files of several kinds, or the parts of a task (training beside test data), of
            which only some are meant.
    """
    found = sorted(folder.iterdir())
    inside = [path for path in found if not path.name.startswith(".")]
    if any(path.name == "dataset_dict.json" for path in inside):
        parts = [path.name for path in inside if path.is_dir()]
        raise UserInputError(f"{folder}: holds a data set in parts; name the folder of one: {listing(parts)}")
    files = _saved_by_datasets(folder) or _data_files(inside, also)
    if not files:
        names = [path.name + "/" * path.is_dir() for path in inside]
        raise UserInputError(
            f"{folder}: is a folder without a data file (CSV, TSV, JSON, Parquet or Arrow); it holds {listing(names)}"
        )
    names = [path.name for path in files]
    if len({_kind(path) for path in files}) > 1:
        raise UserInputError(f"{folder}: holds files of several kinds; name those to read: {listing(names)}")
    if len({_unpacked(path) for path in files}) < len(files):
        raise UserInputError(f"{folder}: holds a file both packed and unpacked; name those to read: {listing(names)}")
    if len({_part(path) for path in files}) > 1:
        raise UserInputError(
            f"{folder}: holds several parts of a data set, and only some are to be learnt from; name their files: "
            f"{listing(names)}"
        )
    return files


def parts_of(folder: Path) -> dict[str, list[Path]]:
    """Return a folder's tables by the part of a task that their names say: `train`, `validation`, `test`.

    Tables whose names say no part are left out; so a folder that holds no parts gives nothing.
    """
    parts: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        part = _part(path)
        is_table = path.is_file() and _ending(path) in _KINDS and path.name.lower() not in _NO_DATA
        if part is not None and is_table and not path.name.startswith("."):
            parts.setdefault(part, []).append(path)
    return parts


def _data_files(inside: Sequence[Path], also: Sequence[str]) -> list[Path]:
    """Return the tables among files; without one, those of the other endings."""
    files = [path for path in inside if path.is_file() and path.name.lower() not in _NO_DATA]
    tables = [path for path in files if _ending(path) in _KINDS]
    return tables or [path for path in files if _ending(path) in also]


def _saved_by_datasets(folder: Path) -> list[Path]:
    """Return the files that `save_to_disk` notes in its state.json; what else lies there are caches."""
    try:
        with (folder / _STATE).open("rb") as file:
            noted = json.loads(file.read(_STATE_BYTES))["_data_files"]
        names = [str(entry["filename"]) for entry in noted]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [folder / name for name in names] if all((folder / name).parent == folder for name in names) else []


def _kind(path: Path) -> str:
    return _KINDS.get(_ending(path), _ending(path))


def _ending(path: Path) -> str:
    return PurePath(_unpacked(path)).suffix


def _unpacked(path: Path) -> str:
    """Return the name in lower case without the ending that says how the file is packed."""
    name = path.name.lower()
    return next((name.removesuffix(ending) for ending in PACKED if name.endswith(ending)), name)


def _part(path: Path) -> str | None:
    found = _PARTS.search(path.name.lower())
    return _SAME_PART.get(found[1], found[1]) if found else None
