"""What files of tensors hold, as a name: the same for the same tensors, however they are cut into files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from coldfuse.core.schema import Schema
from coldfuse.core.serialization import sha256
from coldfuse.engine.files import LocalSource
from coldfuse.engine.remote_files import KeySource
from coldfuse.tensors.header import TensorEntry
from coldfuse.tensors.model_digest import BLOCK_BYTES, model_digest

FileSource = LocalSource | KeySource
"""A safetensors file that is a file for others too: on this machine, or an object."""

_READS_AT_A_TIME = 8
_READ_BYTES = 4 << 20
_NUM_SAMPLES = 64
_SAMPLE_BYTES = 4096

_Range = tuple[FileSource, int, int]
"""First byte in a file, and the one after the last."""


def content_digest(sources: Sequence[FileSource]) -> str:
    """Hash every tensor of a model or delta: the model digest."""
    tensors = _by_name(sources)
    cuts = [
        (name, (source, start, min(start + BLOCK_BYTES, _end(entry))))
        for name, (source, entry) in tensors.items()
        for start in range(entry.start, _end(entry), BLOCK_BYTES)
    ]
    blocks: dict[str, list[str]] = {name: [] for name in tensors}
    for (name, _), digest in zip(cuts, _digests([where for _, where in cuts]), strict=True):
        blocks[name].append(digest)
    return model_digest(_schema(tensors.values()), blocks)


def sample_digest(sources: Sequence[FileSource]) -> str:
    """Hash some evenly spaced bytes of all tensors: enough to tell most contents apart, and quick."""
    tensors = _by_name(sources)
    total = sum(entry.spec.size_bytes for _, entry in tensors.values())
    step = max(total // _NUM_SAMPLES, _SAMPLE_BYTES)
    wanted, ranges = 0, []
    before = 0
    for source, entry in tensors.values():
        while wanted < before + entry.spec.size_bytes:
            start = entry.start + wanted - before
            ranges.append((source, start, min(start + _SAMPLE_BYTES, _end(entry))))
            wanted += step
        before += entry.spec.size_bytes
    described = model_digest(_schema(tensors.values()), {name: [] for name in tensors})
    return sha256("".join([described, *_digests(ranges)]).encode())


def _by_name(sources: Iterable[FileSource]) -> dict[str, tuple[FileSource, TensorEntry]]:
    found = {entry.name: (source, entry) for source in sources for entry in source.header.tensors}
    return {name: found[name] for name in sorted(found)}


def _end(entry: TensorEntry) -> int:
    return entry.start + entry.spec.size_bytes


def _schema(tensors: Iterable[tuple[FileSource, TensorEntry]]) -> Schema:
    return {entry.name: entry.spec for _, entry in tensors}


def _digests(ranges: Sequence[_Range]) -> Iterator[str]:
    """Hash ranges in their order; objects are asked for several at a time, as each request costs a round trip."""
    if not any(isinstance(source, KeySource) for source, _, _ in ranges):
        yield from map(_digest, ranges)
        return
    with ThreadPoolExecutor(_READS_AT_A_TIME) as pool:
        yield from pool.map(_digest, ranges)


def _digest(where: _Range) -> str:
    source, start, end = where
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_READ_BYTES, end - start)))
    with source.open() as file:
        for first in range(start, end, _READ_BYTES):
            view = buffer[: min(_READ_BYTES, end - first)]
            file.read_into(view, first)
            digest.update(view)
    return digest.hexdigest()
