"""What a user names as data - files, folders, a pipe - to streams of bytes that can be read more than once.

Files packed by gzip, bzip2 or xz are unpacked as they are read. What comes through a pipe is kept in memory, so that
private data are written nowhere.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, BinaryIO, cast

from coldfuse.data.addresses import Address, address_of
from coldfuse.data.folders import PACKED, files_of
from coldfuse.data.media import is_media_folder
from coldfuse.data.words import printable
from coldfuse.errors import UserInputError

_UNPACKERS: dict[re.Pattern[bytes], Callable[[BinaryIO], io.BufferedIOBase]] = {
    re.compile(rb"\x1f\x8b"): lambda file: gzip.GzipFile(fileobj=file),
    re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P)"): bz2.BZ2File,
    re.compile(rb"\xfd7zXZ\x00"): lzma.LZMAFile,
}
_MOST_UNPACKED_BYTES = 16 << 30
_MOST_PIPED_BYTES = 4 << 30
_HEAD_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file's bytes."""

    name: str
    """Name for messages, printable."""
    path: Path | None
    """Where it lies; None for what came through a pipe."""
    piped: bytes | None = None
    """What came through a pipe."""

    @property
    def ending(self) -> str:
        """Ending of the name in lower case, such as `.csv`; what only says how the file is packed is left out."""
        return next((end for end in reversed(PurePath(self.name.lower()).suffixes) if end not in PACKED), "")

    @property
    def place(self) -> object:
        """What two sources of the same bytes have in common."""
        return self.path.resolve() if self.path else self.name

    @property
    def is_packed(self) -> bool:
        """Whether the bytes are unpacked as they are read."""
        with self._open_raw() as file:
            return _unpacker(file) is not None

    def open(self) -> BinaryIO:
        """Open the bytes, unpacked, from the beginning."""
        file = self._open_raw()
        unpack = _unpacker(file)
        return io.BufferedReader(_Bounded(file, unpack(file), self.name)) if unpack else file

    def head(self) -> bytes:
        """Return the first bytes."""
        with self.open() as file:
            return file.read(_HEAD_BYTES)

    def _open_raw(self) -> BinaryIO:
        return io.BytesIO(self.piped) if self.piped is not None else cast("Path", self.path).open("rb")


def find_sources(
    data: Path | str | Sequence[Path | str], *, also: Sequence[str] = (), media: str | None = None
) -> list[Source | Address]:
    """Return the sources of what a user names: one or several files, folders and patterns; `-` is standard input.

    Args:
        data: What the user names.
        also: Endings of files that a folder may hold instead of tables, such as `.txt`.
        media: `image` or `audio`, where a folder of them is one source.

    Raises:
        UserInputError: Something is not there, is named twice, or cannot be read as data.
    """
    named = [data] if isinstance(data, Path | str) else list(data)
    if not named:
        raise UserInputError("no data: expected a file, a folder or -")
    found = [source for each in named for source in _sources_of(str(each), also, media)]
    seen: set[object] = set()
    for source in found:
        place = source.place if isinstance(source, Source) else source
        if place in seen:
            raise UserInputError(f"{source.name}: is given twice; its rows would count twice")
        seen.add(place)
    return found


@contextmanager
def explaining(name: str) -> Iterator[None]:
    """Say in words what a system or a library says of a file."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserInputError(f"{name}: cannot be unpacked, is it cut off? ({error})") from error
    except OSError as error:
        raise UserInputError(f"{name}: cannot be read: {error.strerror or error}") from error


def _sources_of(name: str, also: Sequence[str], media: str | None) -> Sequence[Source | Address]:
    if name == "-":
        if sys.stdin is None or sys.stdin.closed:
            raise UserInputError("-: there is no standard input; name a file")
        if sys.stdin.isatty():
            raise UserInputError("-: standard input is a terminal; pipe the data into it, or name a file")
        return [_piped("standard input", sys.stdin.buffer)]
    if (address := address_of(name)) is not None:
        return [address]
    try:
        if media is not None and is_media_folder(Path(name), media):
            return [Source(name=printable(name), path=Path(name))]
        return _on_disk(name, Path(name), also)
    except (OSError, ValueError) as error:
        raise UserInputError(f"{printable(name)}: cannot be read: {error}") from error


def _on_disk(name: str, path: Path, also: Sequence[str]) -> list[Source]:
    shown_name = printable(name)
    if path.is_fifo():
        with path.open("rb") as file:
            return [_piped(shown_name, file)]
    if path.is_dir():
        return [Source(name=printable(str(inside)), path=inside) for inside in files_of(path, also=also)]
    if path.is_file():
        return [Source(name=shown_name, path=path)]
    if path.exists():
        raise UserInputError(f"{shown_name}: is no file, folder or pipe; name the file that holds the data")
    if found := _matching(name):
        return found
    why = ": it is a link to what is not there" if path.is_symlink() else ""
    if not why and not path.parent.exists():
        why = f"; there is no folder {printable(str(path.parent))} either"
    raise UserInputError(f"{shown_name}: no such file or folder{why}")


def _matching(pattern: str) -> list[Source]:
    """Return the files that a pattern such as `letters/*.txt` or `letters/**/*.txt` names, in the order of their names.

    Hidden files are none, as in a shell.
    """
    if not any(mark in pattern for mark in "*?["):
        return []
    names = sorted(glob.glob(pattern, recursive=True))
    return [Source(name=printable(name), path=Path(name)) for name in names if Path(name).is_file()]


def read_at_most(file: IO[bytes], most_bytes: int) -> bytes:
    """Read a file to its end, or so many bytes; `read` itself would set all of them aside before it begins."""
    pieces, left = [], most_bytes
    while left and (piece := file.read(min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _piped(name: str, file: IO[bytes]) -> Source:
    with explaining(name):
        content = read_at_most(file, _MOST_PIPED_BYTES + 1)
    if len(content) > _MOST_PIPED_BYTES:
        raise UserInputError(f"{name}: more than {_MOST_PIPED_BYTES >> 30} GiB through a pipe; save it as a file first")
    return Source(name=name, path=None, piped=content)


def _unpacker(file: BinaryIO) -> Callable[[BinaryIO], io.BufferedIOBase] | None:
    start = file.read(10)
    file.seek(0)
    return next((unpack for mark, unpack in _UNPACKERS.items() if mark.match(start)), None)


class _Bounded(io.RawIOBase):
    """An unpacked stream that ends in an error before it fills the machine: a small file can unpack to anything."""

    def __init__(self, packed: BinaryIO, stream: io.BufferedIOBase, name: str) -> None:
        self._packed, self._stream, self._name = packed, stream, name
        self._left = _MOST_UNPACKED_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader hands over
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise UserInputError(
                f"{self._name}: unpacks to more than {_MOST_UNPACKED_BYTES >> 30} GiB; unpack it first if that is right"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()
