"""Ranges of a local file."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from coldfuse.errors import UserInputError


class Readable(Protocol):
    """An open file."""

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the file's bytes from `start`."""


class Openable(Protocol):
    """A file by its name, wherever it lies; the name can be sent to another process."""

    def open(self) -> AbstractContextManager[Readable]:
        """Open the file."""


@dataclass(frozen=True)
class LocalPath:
    """A file by its path."""

    path: Path

    def open(self) -> LocalFile:
        """Open the file."""
        return LocalFile(self.path)

    def __str__(self) -> str:
        return str(self.path)


class LocalFile:
    """An open file that any thread may read ranges of, straight into a buffer. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserInputError(f"{path}: cannot be read: {error.strerror}") from error

    @property
    def size_bytes(self) -> int:
        """Size of the file now."""
        return os.fstat(self._fd).st_size

    def fileno(self) -> int:
        """Return the open file's descriptor."""
        return self._fd

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the file's bytes from `start`."""
        done = 0
        while done < len(buffer):
            count = os.preadv(self._fd, [buffer[done:]], start + done)
            if count == 0:
                raise UserInputError(f"{self._path}: ends before byte {start + len(buffer):,}; is it still written to?")
            done += count

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> LocalFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
