"""Which files of a folder hold a model's weights: `model.safetensors` or what an index names, or diffusers' names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.header import Header

STEMS = ("model", "diffusion_pytorch_model")
"""How transformers and diffusers begin the names of weights."""

_STEM = "|".join(STEMS)
_NAME = re.compile(rf"(?P<stem>{_STEM})(?P<variant>\.\w+)?(-\d+-of-\d+)?\.safetensors$")
_VARIANT = re.compile(rf"({_STEM})\.(?P<a>\w+)\.safetensors|({_STEM})\.safetensors\.index\.(?P<b>\w+)\.json")
"""A further copy of the weights, such as `model.fp16.safetensors`, which `from_pretrained(…, variant="fp16")` loads."""


@dataclass(frozen=True)
class Weights:
    """The files that hold the weights of one folder."""

    files: tuple[str, ...]
    """Safetensors files, by their names in the folder."""
    index: str | None
    """The file that says which tensor lies in which of them, if there is one."""


def choose_weights(
    names: Collection[str], read: Callable[[str], bytes], what: str, *, is_diffusers: bool = False
) -> Weights | None:
    """Choose the safetensors files that model libraries load from a folder.

    Args:
        names: The names of all files of the folder.
        read: Returns the content of a file by its name; called for an index alone.
        what: The folder's name, for errors.
        is_diffusers: True if diffusers' names come before transformers'; False for the other way round.

    Returns:
        The weights; None if no file has a name that libraries load.

    Raises:
        UserInputError: Not all of a model is there, or perhaps two of them.
    """
    variants = sorted({match["a"] or match["b"] for name in names if (match := _VARIANT.fullmatch(name))})
    stems = STEMS[::-1] if is_diffusers else STEMS
    for variant in ("", *variants):
        for stem in stems:
            found = _of_stem(stem, variant, names, read, what)
            if found and variant and len(variants) > 1:
                raise UserInputError(
                    f"{what}: no {stem}.safetensors, but several variants of it ({', '.join(variants)}); keep the one "
                    "that is meant"
                )
            if found:
                return found
    return None


def shard_names(weights: Weights, num_files: int) -> tuple[list[str], str]:
    """Return names of so many files in the stead of a folder's weights, and that of their index.

    >>> shard_names(Weights(("diffusion_pytorch_model.fp16.safetensors",), None), 2)[0][0]
    'diffusion_pytorch_model.fp16-00001-of-00002.safetensors'
    """
    match = _NAME.match(weights.files[0])
    stem, variant = (match["stem"], match["variant"] or "") if match else (STEMS[0], "")
    if num_files == 1:
        return [f"{stem}{variant}.safetensors"], ""
    names = [f"{stem}{variant}-{n:05d}-of-{num_files:05d}.safetensors" for n in range(1, num_files + 1)]
    return names, f"{stem}.safetensors.index{variant}.json"


def index_of(headers: Mapping[str, Header]) -> dict[str, object]:
    """Return the index of a model's files, given the header of each."""
    weight_map = {entry.name: name for name, header in headers.items() for entry in header.tensors}
    total = sum(entry.spec.size_bytes for header in headers.values() for entry in header.tensors)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}


def check_owners(headers: Mapping[str, Header], what: str) -> None:
    """Raise `SchemaMismatchError` if two files hold a tensor of the same name."""
    owners: dict[str, str] = {}
    for file, header in headers.items():
        for entry in header.tensors:
            if entry.name in owners:
                raise SchemaMismatchError(f"{what}: tensor {entry.name} is in {owners[entry.name]} and in {file}")
            owners[entry.name] = file


def check_index(index: bytes, held: Collection[str], what: str) -> None:
    """Raise `UserInputError` if an index, whose name is `what`, names a tensor that is in none of its files."""
    missing = [name for name in _indexed(index, what)[0] if name not in held]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserInputError(f"{what} names the tensor {missing[0]}{more}, which no file has; fetch the whole model")


def require_printable(names: Collection[str], what: str) -> None:
    """Raise `UserInputError` if a file's name would be another one, or a path, on another system."""
    for name in names:
        if not _is_printable(name):
            raise UserInputError(f"{what}: the name {name!r} holds a backslash or a control character; rename the file")


def _of_stem(
    stem: str, variant: str, names: Collection[str], read: Callable[[str], bytes], what: str
) -> Weights | None:
    dotted = f".{variant}" if variant else ""
    single, index = f"{stem}{dotted}.safetensors", f"{stem}.safetensors.index{dotted}.json"
    if index not in names:
        return Weights((single,), None) if single in names else None
    files = _indexed(read(index), f"{what}/{index}")[1]
    if single in names and single not in files:
        raise UserInputError(
            f"{what}: holds {single}, which from_pretrained loads, and {index}, which names other files; "
            "remove the one that is not meant"
        )
    missing = [name for name in files if not _is_there(name, names)]
    if missing:
        raise UserInputError(f"{what}: {index} names {missing[0]}, which is not there; fetch the whole model")
    return Weights(tuple(files), index)


def _indexed(index: bytes, what: str) -> tuple[list[str], list[str]]:
    """Return the tensors and the files that an index names."""
    try:
        weight_map = json.loads(index)["weight_map"]
        return list(weight_map), sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserInputError(f"{what}: not a safetensors index: {error}") from error


def _is_there(name: object, names: Collection[str]) -> bool:
    return isinstance(name, str) and PurePosixPath(name).name == name and _is_printable(name) and name in names


def _is_printable(name: str) -> bool:
    return name.isprintable() and "\\" not in name
