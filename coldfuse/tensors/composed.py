"""A safetensors file that lies nowhere as such: a header, and then bytes that lie in files or are computed as read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from coldfuse.core.schema import TensorSpec
from coldfuse.tensors.files import ByteRange, File, opened
from coldfuse.tensors.header import format_header, parse_header
from coldfuse.tensors.tensor_file import TensorFile


@dataclass(frozen=True)
class ComposedFile:
    """Ranges of other files after a header, as one file. It holds nothing open."""

    name: str
    """What the file is, for people."""
    head: bytes
    """The first bytes: a safetensors header."""
    contents: tuple[ByteRange, ...]
    """What each tensor holds, in their order."""

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return self._ends[-1]

    @property
    def is_remote(self) -> bool:
        """True if some of it lies where a request costs a round trip."""
        return any(where.file.is_remote for where in self.contents)

    @property
    def sources(self) -> set[File]:
        """The files that it is made of."""
        return {source for where in self.contents for source in sources_of(where.file)}

    def open(self) -> ComposedFile:
        """Return what reads it."""
        return self

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill the buffer with the file's bytes from `start`."""
        done = min(max(len(self.head) - start, 0), len(buffer))
        buffer[:done] = self.head[start : start + done]
        while done < len(buffer):
            index, offset = self._find(start + done)
            where = self.contents[index]
            take = min(where.length - offset, len(buffer) - done)
            with opened(where.file) as reader:
                reader.read_into(buffer[done : done + take], where.start + offset)
            done += take

    def range(self, start: int, length: int) -> ByteRange:
        """Name some of the file's bytes; of one tensor, by the file where they lie."""
        if len(self.head) <= start < self.size_bytes:
            index, offset = self._find(start)
            where = self.contents[index]
            if offset + length <= where.length:
                return where.file.range(where.start + offset, length)
        return ByteRange(self, start, length)

    def _find(self, place: int) -> tuple[int, int]:
        """Return which tensor holds a byte, and where in it."""
        index = bisect_right(self._ends, place)
        return index - 1, place - self._ends[index - 1]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate((where.length for where in self.contents), initial=len(self.head)))

    def __hash__(self) -> int:
        """Return a number that is quick to get: a file is looked up for every range that is read."""
        return hash((self.name, len(self.head)))

    def __str__(self) -> str:
        return self.name


def compose(
    name: str, tensors: Iterable[tuple[str, TensorSpec, ByteRange]], metadata: Mapping[str, str], *, within: str = ""
) -> TensorFile:
    """Return a safetensors file of tensors that lie elsewhere.

    Args:
        name: What the file is, for people.
        tensors: Name, dtype and shape, and content of each, in their order.
        metadata: What the file says of itself.
        within: The folder of the model's that the file lies in, which the names begin with.
    """
    found = list(tensors)
    head = format_header([(tensor.removeprefix(within), spec) for tensor, spec, _ in found], metadata)
    file = ComposedFile(name, head, tuple(where for _, _, where in found))
    return TensorFile(file, parse_header(head[8:], what=name).within(within))


def sources_of(file: File) -> set[File]:
    """Return the files in which a file's bytes lie: itself, unless it is made of others."""
    found = getattr(file, "sources", None)
    return {file} if found is None else set(found)
