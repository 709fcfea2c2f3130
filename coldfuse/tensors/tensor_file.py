"""A safetensors file wherever it lies: the file, and where each tensor lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coldfuse.tensors.files import ByteRange, File, LocalFile, opened
from coldfuse.tensors.header import Header, TensorEntry, read_header


@dataclass(frozen=True)
class TensorFile:
    """A safetensors file: a file, and where each tensor lies in it."""

    file: File
    header: Header

    def range(self, entry: TensorEntry) -> ByteRange:
        """Name a whole tensor's bytes."""
        return self.file.range(entry.start, entry.spec.size_bytes)

    def entry(self, name: str) -> TensorEntry:
        """Return where a tensor lies. Raises `KeyError` where there is none of this name."""
        return self._entries[name]

    @cached_property
    def _entries(self) -> dict[str, TensorEntry]:
        return {entry.name: entry for entry in self.header.tensors}

    def __str__(self) -> str:
        return self.file.name


def open_tensors(file: File, *, within: str = "") -> TensorFile:
    """Read a safetensors file's header.

    Args:
        file: The file.
        within: The folder of the model's that it lies in, which its tensors are known by; "" for the model's own.

    Raises:
        CodecError: The file is no safetensors file, or cut off.
        UserInputError: The file cannot be read.
    """
    with opened(file) as reader:
        header = read_header(reader.read_into, file_bytes=file.size_bytes, what=file.name)
    return TensorFile(file, header.within(within))


def read_file_header(path: Path) -> Header:
    """Return the header of a safetensors file on this machine; raises as `open_tensors`."""
    return open_tensors(LocalFile(path)).header
