"""A Hugging Face model folder: which of its files make a release, and where its tensors lie, sharded or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from coldfuse.core import model_files
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.header import Header, TensorEntry, read_header
from coldfuse.tensors.local_file import LocalFile
from coldfuse.tensors.model_digest import BLOCK_BYTES, block_digests, model_digest

INDEX = model_files.INDEX


@dataclass(frozen=True)
class ModelFolder:
    """The files of a model, with the headers of those that hold tensors."""

    path: Path
    headers: Mapping[str, Header]
    """Header of each safetensors file, by relative path."""
    plain: tuple[str, ...]
    """Relative paths of the other files that belong to the model."""

    @property
    def schema(self) -> Schema:
        """All tensors, of all shards."""
        return {name: spec for header in self.headers.values() for name, spec in header.schema.items()}

    def tensors(self) -> dict[str, tuple[str, TensorEntry]]:
        """Return the file and the place of each tensor."""
        return {entry.name: (file, entry) for file, header in self.headers.items() for entry in header.tensors}

    def digest(self) -> str:
        """Hash every tensor."""
        blocks: dict[str, list[str]] = {}
        buffer = memoryview(bytearray(BLOCK_BYTES))
        for file, header in self.headers.items():
            with LocalFile(self.path / file) as local:
                for entry in header.tensors:
                    blocks[entry.name] = []
                    for start in range(0, entry.spec.size_bytes, BLOCK_BYTES):
                        view = buffer[: min(BLOCK_BYTES, entry.spec.size_bytes - start)]
                        local.read_into(view, entry.start + start)
                        blocks[entry.name] += block_digests(view)
        return model_digest(self.schema, blocks)


def open_model_folder(path: Path) -> ModelFolder:
    """Read the headers of a model folder. Raises `UserInputError` for what is not one."""
    if not path.is_dir():
        raise UserInputError(f"{path}: expected a Hugging Face model folder, and there is no such folder")
    if not (path / "config.json").is_file():
        raise UserInputError(f"{path}: expected a Hugging Face model folder, but it has no config.json")
    names = _file_names(path)
    files = choose_weight_files(names, lambda name: (path / name).read_bytes(), str(path))
    headers = {name: read_file_header(path / name) for name in files}
    check_owners(headers, str(path))
    if INDEX in names:
        check_index((path / INDEX).read_bytes(), headers, str(path))
    return ModelFolder(path=path, headers=headers, plain=choose_plain_files(names, str(path)))


def read_file_header(path: Path) -> Header:
    """Read the header of one local safetensors file."""
    with LocalFile(path) as local:
        return read_header(local.read_into, file_bytes=local.size_bytes, what=str(path))


def choose_weight_files(names: Collection[str], read: Callable[[str], bytes], what: str) -> list[str]:
    """Return the safetensors files of a model that lie among a folder's files; `read` returns a file's content."""
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
    """Return configuration and tokenizer files, known by their names, also those of sentence-transformers' modules."""
    plain = sorted(name for name in names if model_files.is_model_file(name))
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


def check_index(index: bytes, headers: Mapping[str, Header], what: str) -> None:
    """Raise `UserInputError` if the index names a tensor that is in none of the model's files."""
    held = {entry.name for header in headers.values() for entry in header.tensors}
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
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserInputError(f"{what}/{INDEX}: not a safetensors index: {error}") from error


def _is_there(name: object, names: Collection[str]) -> bool:
    return isinstance(name, str) and Path(name).name == name and _is_printable(name) and name in names


def _file_names(path: Path) -> set[str]:
    """List the files that may belong to the model: those in the folder, and the few kinds that lie a folder down."""
    found = (*path.glob("*"), *(file for pattern in model_files.NESTED_MODEL_FILES for file in path.glob(pattern)))
    return {file.relative_to(path).as_posix() for file in found if file.is_file()}


def _is_printable(name: str) -> bool:
    return name.isprintable() and "\\" not in name
