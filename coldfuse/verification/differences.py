"""The first thing in which a release differs from what comes out when it is fused again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from coldfuse.core.blob import Blob
from coldfuse.core.release import OuterState, ReleaseManifest
from coldfuse.errors import ColdfuseError
from coldfuse.registry.federation import Federation
from coldfuse.tensors.files import BlobFile, opened
from coldfuse.tensors.model_digest import BLOCK_BYTES, block_digests
from coldfuse.tensors.tensor_file import open_tensors

_FACTS = ("method", "contributions", "norms", "moved", "module", "cut")


def first_difference(
    federation: Federation, released: ReleaseManifest, again: ReleaseManifest, blocks: Mapping[str, Sequence[str]]
) -> str | None:
    """Say in which tensor, file or fact a release differs first; None where it does not.

    Args:
        federation: Where the release's files lie.
        released: The release.
        again: What came out when it was fused again.
        blocks: Block digests of each tensor that came out.
    """
    return next(_differences(federation, released, again, blocks), None)


def _differences(
    federation: Federation, released: ReleaseManifest, again: ReleaseManifest, blocks: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    yield from (f"it has other files: {path} is in only one of the two" for path in _in_one(released, again))
    for path, blob in sorted(released.files.items()):
        if path in again.files and blob.parts != again.files[path].parts:
            yield _where(federation, path, blob, again.files[path], blocks)
    if released.model_digest != again.model_digest:
        yield f"its model digest is {released.model_digest[:16]}, and its files make {again.model_digest[:16]}"
    yield from _of_state(released.outer, again.outer)
    yield from _of_facts(released, again)


def _in_one(released: ReleaseManifest, again: ReleaseManifest) -> list[str]:
    return sorted(released.files.keys() ^ again.files.keys())


def _of_facts(released: ReleaseManifest, again: ReleaseManifest) -> Iterator[str]:
    for name in _FACTS:
        theirs, mine = getattr(released, name), getattr(again, name)
        if theirs != mine:
            yield f"{name}: it says {str(theirs)[:120]}, and {str(mine)[:120]} comes out"
    for path, root in sorted(released.checks.items()):
        if again.checks.get(path, root) != root:
            yield f"{path}: what it is verified by as it is read was not made of it"


def _of_state(released: OuterState | None, again: OuterState | None) -> Iterator[str]:
    """Compare what is kept between rounds: a step that is not what it says moves every release after it."""
    if (released is None) != (again is None):
        yield "only one of the two keeps something between rounds"
    if released is None or again is None:
        return
    if released.age != again.age:
        yield f"what it keeps between rounds has seen {released.age} steps, expected {again.age}"
    for name in sorted(released.files.keys() | again.files.keys()):
        if released.files.get(name) != again.files.get(name):
            yield f"what it keeps between rounds differs in {name}"


def _where(federation: Federation, path: str, released: Blob, again: Blob, blocks: Mapping[str, Sequence[str]]) -> str:
    """Name the first tensor of a file whose bytes differ; the file's part where they cannot be read."""
    index = next(
        (i for i, (a, b) in enumerate(zip(released.parts, again.parts, strict=False)) if a != b),
        min(len(released.parts), len(again.parts)),
    )
    part = f"{path} differs in part {index + 1} of {len(released.parts)}"
    if not path.endswith(".safetensors"):
        return f"{part}: files beside the tensors are the parent's"
    try:
        tensors = open_tensors(BlobFile(federation.store.url, released, path, None))
        with opened(tensors.file) as reader:
            for entry in tensors.header.tensors:
                expected = blocks.get(entry.name)
                for number, start in enumerate(range(0, entry.spec.size_bytes, BLOCK_BYTES)):
                    data = bytearray(min(BLOCK_BYTES, entry.spec.size_bytes - start))
                    reader.read_into(memoryview(data), entry.start + start)
                    if expected is None or block_digests(bytes(data))[0] != expected[number]:
                        return f"tensor {entry.name[:200]!r} differs, in {path}"
    except (ColdfuseError, IndexError) as error:
        return f"{part}; which tensor, cannot be said: {error}"
    return part
