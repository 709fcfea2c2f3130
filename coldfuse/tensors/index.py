"""Which of a folder's files make a model: `model.safetensors` or what an index names, and what belongs to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from coldfuse.core.model_files import INDEX, is_model_file
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.header import Header


def choose_weight_files(names: Collection[str], read: Callable[[str], bytes], what: str) -> list[str]:
    """Return the names of a model's safetensors files among those of a folder.

    Args:
        names: The names of all files of the folder.
        read: Returns the content of a file by its name; called for the index alone.
        what: The folder's name, for errors.

    Raises:
        UserInputError: There is no model, not all of one, or perhaps two of them.
    """
    if INDEX in names:
        files = _indexed(read(INDEX), what)[1]
        if "model.safetensors" in names and "model.safetensors" not in files:
            raise UserInputError(
                f"{what}: holds model.safetensors, which from_pretrained loads, and {INDEX}, which names other files; "
                "remove the one that is not meant"
            )
        missing = [name for name in files if not _is_there(name, names)]
        if missing:
            raise UserInputError(f"{what}: {INDEX} names {missing[0]}, which is not there; fetch the whole model")
        return files
    if "model.safetensors" in names:
        return ["model.safetensors"]
    raise UserInputError(
        f"{what}: no model.safetensors; coldfuse reads safetensors only (convert others with "
        "AutoModel.from_pretrained(…).save_pretrained(…, safe_serialization=True))"
    )


def choose_plain_files(names: Collection[str], what: str) -> tuple[str, ...]:
    """Return the names of a model's configuration and tokenizer files, sorted; whatever else lies there is private.

    Raises:
        UserInputError: A name would be another one, or a path, on another system.
    """
    plain = sorted(name for name in names if is_model_file(name))
    for name in plain:
        if not _is_printable(name):
            raise UserInputError(f"{what}: the name {name!r} holds a backslash or a control character; rename the file")
    return tuple(plain)


def check_owners(headers: Mapping[str, Header], what: str) -> None:
    """Raise `SchemaMismatchError` if two files hold a tensor of the same name."""
    owners: dict[str, str] = {}
    for file, header in headers.items():
        for entry in header.tensors:
            if entry.name in owners:
                raise SchemaMismatchError(f"{what}: tensor {entry.name} is in {owners[entry.name]} and in {file}")
            owners[entry.name] = file


def check_index(index: bytes, headers: Collection[Header], what: str) -> None:
    """Raise `UserInputError` if the index names a tensor that is in none of the model's files."""
    held = {entry.name for header in headers for entry in header.tensors}
    missing = [name for name in _indexed(index, what)[0] if name not in held]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserInputError(
            f"{what}: {INDEX} names the tensor {missing[0]}{more}, which no file has; fetch the whole model"
        )


def _indexed(index: bytes, what: str) -> tuple[list[str], list[str]]:
    """Return the tensors and the files that an index names."""
    try:
        weight_map = json.loads(index)["weight_map"]
        return list(weight_map), sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserInputError(f"{what}/{INDEX}: not a safetensors index: {error}") from error


def _is_there(name: object, names: Collection[str]) -> bool:
    return isinstance(name, str) and Path(name).name == name and _is_printable(name) and name in names


def _is_printable(name: str) -> bool:
    return name.isprintable() and "\\" not in name
