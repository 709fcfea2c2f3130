"""Ranges of a local file."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from coldfuse.errors import UserInputError


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
