"""What files of tensors hold, as a name: the same for the same tensors, however they are cut into files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from coldfuse.core.blob import Blob, Part
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import blob_digest, sha256
from coldfuse.tensors.files import ByteRange, opened
from coldfuse.tensors.header import TensorEntry
from coldfuse.tensors.model_digest import BLOCK_BYTES, model_digest
from coldfuse.tensors.parts import plan_parts
from coldfuse.tensors.tensor_file import TensorFile

_READS_AT_A_TIME = 8
"""Number of ranges of remote files that are read at a time."""

_READ_BYTES = 4 << 20
"""Number of bytes that are read in one request and held for a digest or a comparison."""

_NUM_SAMPLES = 64
"""Number of samples of a large model."""

_SAMPLE_BYTES = 4096
"""Size of one sample: a page, which a disk reads whole anyway."""


def content_digest(files: Sequence[TensorFile]) -> str:
    """Return the model digest of a model or delta; reads and hashes every tensor."""
    tensors = _by_name(files)
    cuts = [
        (name, file.file.range(start, min(BLOCK_BYTES, _end(entry) - start)))
        for name, (file, entry) in tensors.items()
        for start in range(entry.start, _end(entry), BLOCK_BYTES)
    ]
    blocks: dict[str, list[str]] = {name: [] for name in tensors}
    for (name, _), digest in zip(cuts, _digests([where for _, where in cuts]), strict=True):
        blocks[name].append(digest)
    return model_digest(_schema(tensors.values()), blocks)


def delta_digest(file: TensorFile) -> str:
    """Return the digest of a delta, by which contributions are ordered: that of the list of its parts.

    The same as its contributor's, who has hashed the parts to upload them.
    """
    return blob_digest(parts_of(file))


def parts_of(file: TensorFile) -> Blob:
    """Return the parts that an upload cuts a file into; reads and hashes all of it."""
    layouts = plan_parts(file.header)
    digests = _digests([file.file.range(layout.start, layout.size_bytes) for layout in layouts])
    parts = [Part(digest=d, size_bytes=layout.size_bytes) for d, layout in zip(digests, layouts, strict=True)]
    return Blob(parts=tuple(parts))


def sample_digest(files: Sequence[TensorFile]) -> str:
    """Return a digest of some evenly spaced bytes of all tensors: quick, and enough to tell most models apart.

    Equal digests do not mean equal models; names, dtypes and shapes are the same then.
    """
    tensors = _by_name(files)
    total = sum(entry.spec.size_bytes for _, entry in tensors.values())
    step = max(total // _NUM_SAMPLES, _SAMPLE_BYTES)
    wanted, ranges = 0, []  # `wanted`: where the next sample begins, were all tensors one
    before = 0  # bytes of the tensors before the one at hand
    for file, entry in tensors.values():
        while wanted < before + entry.spec.size_bytes:
            start = entry.start + wanted - before
            ranges.append(file.file.range(start, min(_SAMPLE_BYTES, _end(entry) - start)))
            wanted += step
        before += entry.spec.size_bytes
    described = model_digest(_schema(tensors.values()), {name: [] for name in tensors})
    return sha256("".join([described, *_digests(ranges)]).encode())


def same_bytes(one: tuple[TensorFile, TensorEntry], other: tuple[TensorFile, TensorEntry]) -> bool:
    """Tell whether two tensors, each a file and where it lies there, have the same dtype, shape and bytes.

    Both are read up to the first difference. By bytes, not by values: 0.0 and -0.0 differ, and NaN equals itself.
    """
    (file, entry), (file2, entry2) = one, other
    if entry.spec != entry2.spec:
        return False
    with opened(file.file) as reader, opened(file2.file) as reader2:
        for start in range(0, entry.spec.size_bytes, _READ_BYTES):
            size = min(_READ_BYTES, entry.spec.size_bytes - start)
            data, data2 = bytearray(size), bytearray(size)
            reader.read_into(memoryview(data), entry.start + start)
            reader2.read_into(memoryview(data2), entry2.start + start)
            if data != data2:
                return False
    return True


def _by_name(files: Iterable[TensorFile]) -> dict[str, tuple[TensorFile, TensorEntry]]:
    found = {entry.name: (file, entry) for file in files for entry in file.header.tensors}
    return {name: found[name] for name in sorted(found)}


def _end(entry: TensorEntry) -> int:
    return entry.start + entry.spec.size_bytes


def _schema(tensors: Iterable[tuple[TensorFile, TensorEntry]]) -> Schema:
    return {entry.name: entry.spec for _, entry in tensors}


def _digests(ranges: Sequence[ByteRange]) -> Iterator[str]:
    """Hash ranges in their order; several at a time where a request costs a round trip."""
    if not any(where.file.is_remote for where in ranges):
        yield from map(_digest, ranges)
        return
    with ThreadPoolExecutor(_READS_AT_A_TIME) as pool:
        yield from pool.map(_digest, ranges)


def _digest(where: ByteRange) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_READ_BYTES, where.length)))
    end = where.start + where.length
    with opened(where.file) as reader:
        for first in range(where.start, end, _READ_BYTES):
            view = buffer[: min(_READ_BYTES, end - first)]
            reader.read_into(view, first)
            digest.update(view)
    return digest.hexdigest()
