"""Reading ranges for one task: descriptors that stay open, and reading ahead where a request costs a round trip.

A model has hundreds of small tensors: of a remote file, what is asked for is read together with what lies behind it,
and a little of that is kept for the next tensor.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from coldfuse.core.dtypes import Raw
from coldfuse.engine.bulk_read import read_ranges
from coldfuse.tensors.files import ByteRange, File, LocalFile, OpenFile, OpenLocalFile, close
from coldfuse.tensors.verified import VerifiedReader

_MAX_OPEN_FILES = 256
"""Maximum number of files that one task keeps open; a fusion may read thousands."""

_SMALL_BYTES = 1 << 20
"""Minimum number of bytes that are read ahead, and maximum that are kept for the next tensor: so many take about as
long to transfer as the request itself."""

Read = Callable[[File, memoryview, int], None]
"""read(file, buffer, start): fill the buffer with the file's bytes from `start`."""

Span = Callable[[File, int, int], tuple[int, int]]
"""span(file, start, length): the first byte and the end of what is read anyway for a range of the file."""


def _exactly(_file: File, start: int, length: int) -> tuple[int, int]:
    return start, start + length


class RangeReader:
    """Reads ranges of files for one task, each mostly from its beginning to its end."""

    def __init__(self, *, request_bytes: int = 0, max_open_files: int = _MAX_OPEN_FILES) -> None:
        """Open nothing yet.

        Args:
            request_bytes: Number of bytes of a remote file that are read at once; 0: just what is asked for.
            max_open_files: Maximum number of files that are kept open.
        """
        self._open: OrderedDict[File, OpenFile] = OrderedDict()
        self._max_open_files = max_open_files
        self._ahead = ReadAhead(request_bytes, self._fetch, self._span)

    def read_into(self, where: ByteRange, buffer: memoryview, offset: int) -> None:
        """Fill the buffer with the range's bytes from `offset`."""
        if where.file.is_remote:
            self._ahead.read_into(where, buffer, offset)
        else:
            self._fetch(where.file, buffer, where.start + offset)

    def read_rows(self, wheres: Sequence[ByteRange | None], offsets: Sequence[int], out: Raw) -> None:
        """Fill `out` with rows of equal length, one of each range.

        Args:
            wheres: A range for each row; None leaves its row as it is.
            offsets: The byte in each range at which its row begins.
            out: As many rows as there are ranges, one after the other.
        """
        row = len(out) // len(wheres)
        done = 0
        if len(wheres) < self._max_open_files and all(w is None or isinstance(w.file, LocalFile) for w in wheres):
            local = [(-1, 0) if where is None else (self._descriptor(where.file), where.start) for where in wheres]
            fds_C, starts_C = np.array(local, np.int64).T
            done = read_ranges(np.ascontiguousarray(fds_C), starts_C + np.array(offsets, np.int64), out)
        # Those that are not local, and those whose fast read failed: read again one by one, which says what is wrong.
        for index in range(done, len(wheres)):
            if (where := wheres[index]) is not None:
                self.read_into(where, out[index * row : (index + 1) * row].data, offsets[index])

    def forget(self) -> None:
        """Let go of what was read ahead: another piece comes."""
        self._ahead.forget()

    def close(self) -> None:
        """Close the files."""
        for reader in self._open.values():
            close(reader)

    def _fetch(self, file: File, buffer: memoryview, start: int) -> None:
        self._opened(file).read_into(buffer, start)

    def _span(self, file: File, start: int, length: int) -> tuple[int, int]:
        reader = self._opened(file)
        return reader.span(start, length) if isinstance(reader, VerifiedReader) else (start, start + length)

    def _descriptor(self, file: File) -> int:
        reader = self._opened(file)
        return reader.fileno() if isinstance(reader, OpenLocalFile) else -1

    def _opened(self, file: File) -> OpenFile:
        if file in self._open:
            self._open.move_to_end(file)
        else:
            self._open[file] = file.open()
            if len(self._open) > self._max_open_files:
                close(self._open.popitem(last=False)[1])
        return self._open[file]


class ReadAhead:
    """Reads ranges of remote files for one task, each mostly from its beginning to its end."""

    def __init__(self, request_bytes: int, fetch: Read, span: Span = _exactly) -> None:
        """Hold nothing yet.

        Args:
            request_bytes: Number of bytes of a file that are read at once, and about as many held at most.
            fetch: Reads from a file itself.
            span: Says what has to be read for a range: what is verified, is verified in whole pieces.
        """
        self._request_bytes = request_bytes
        self._fetch, self._span = fetch, span
        self._held: dict[File, tuple[int, memoryview]] = {}
        self._used: set[File] = set()

    def read_into(self, where: ByteRange, buffer: memoryview, offset: int) -> None:
        """Fill the buffer with the range's bytes from `offset`."""
        start = where.start + offset
        end = start + len(buffer)
        if len(buffer) >= self._request_bytes:
            self._fetch(where.file, buffer, start)
            return
        self._used.add(where.file)
        first, data = self._held.get(where.file, (0, memoryview(b"")))
        if not first <= start <= end <= first + len(data):
            first, data = self._read(where, start, len(buffer))
        buffer[:] = data[start - first : end - first]

    def forget(self) -> None:
        """Let go of what a next tensor cannot need, or what would take much memory until then."""
        small = {key: held for key, held in self._held.items() if key in self._used and len(held[1]) <= _SMALL_BYTES}
        self._held, self._used = small, set()

    def _read(self, where: ByteRange, start: int, wanted: int) -> tuple[int, memoryview]:
        rest = where.start + where.length - start
        little = min(_SMALL_BYTES, where.file.size_bytes - start)
        first, end = self._span(where.file, start, wanted)
        length = max(end - first, min(self._request_bytes, max(rest, little)))
        if first + length > end:  # not beyond what was asked for: a piece more would be held for nothing
            end = max(end, self._span(where.file, first + length, 0)[0])
        data = memoryview(bytearray(end - first))
        there = self._take_held(where.file, first, data)
        self._fetch(where.file, data[there:], first + there)
        self._held[where.file] = first, data
        return first, data

    def _take_held(self, file: File, first: int, data: memoryview) -> int:
        """Copy what is held of a file's bytes from `first` on; return how many there are, at most as many as asked."""
        held_first, held = self._held.pop(file, (0, memoryview(b"")))
        if not held_first <= first < held_first + len(held):
            return 0
        there = held[first - held_first :][: len(data)]
        data[: len(there)] = there
        return len(there)
