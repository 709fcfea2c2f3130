"""Reading elements of tensors by name, from files that stay open: the one way from a file to numbers in memory."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import Raw, to_floats
from coldfuse.core.schema import size_of
from coldfuse.tensors.checkpoint import places_of
from coldfuse.tensors.files import File, OpenFile, close
from coldfuse.tensors.header import TensorEntry
from coldfuse.tensors.tensor_file import TensorFile


class TensorReader:
    """Reads elements of the tensors of some files; any thread may call it. A context manager.

    >>> import tempfile, pathlib
    >>> from coldfuse.core.schema import TensorSpec
    >>> from coldfuse.tensors.files import LocalFile
    >>> from coldfuse.tensors.tensor_file import open_tensors
    >>> from coldfuse.tensors.header import format_header
    >>> head = format_header([("w", TensorSpec(dtype="F32", shape=(2,)))], {})
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> _ = path.write_bytes(head + np.array([1, 2], np.float32).tobytes())
    >>> with TensorReader([open_tensors(LocalFile(path))]) as reader:
    ...     reader.floats("w")
    array([1., 2.])
    """

    def __init__(self, files: Collection[TensorFile]) -> None:
        """Open all files; `close` closes them."""
        self._places = places_of(files)
        self._readers: dict[File, OpenFile] = {file.file: file.file.open() for file in files}

    def entry(self, name: str) -> TensorEntry:
        """Return where a tensor lies in its file. Raises `KeyError` if no file has it."""
        return self._places[name][1]

    def raw(self, name: str, first: int = 0, count: int | None = None) -> Raw:
        """Return the bytes of `count` elements from index `first` on, or of all that follow, as they are stored."""
        file, entry = self._places[name]
        count = entry.spec.num_elements - first if count is None else count
        raw = np.empty(size_of(entry.spec.dtype, count), np.uint8)
        self._readers[file.file].read_into(raw.data, entry.start + size_of(entry.spec.dtype, first))
        return raw

    def floats(self, name: str, first: int = 0, count: int | None = None) -> NDArray[np.float64]:
        """Return `count` elements from index `first` on, or all that follow, as flat float64, without loss."""
        with np.errstate(invalid="ignore"):  # a NaN of a kind that processors speak up about
            return to_floats(self.raw(name, first, count), self.entry(name).spec.dtype).astype(np.float64)

    def numbers(self, name: str, first: int, count: int) -> NDArray[Any]:
        """Return elements as `floats` does, or as they are stored where they are bytes and no floats."""
        is_raw = self.entry(name).spec.dtype == "U8"
        return self.raw(name, first, count) if is_raw else self.floats(name, first, count)

    def close(self) -> None:
        """Close the files."""
        for reader in self._readers.values():
            close(reader)

    def __enter__(self) -> TensorReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
