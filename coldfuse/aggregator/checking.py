"""Checks of files that have none: those of older versions, and those whose checks are damaged.

Each part is read whole, once, on the workers, and must have the SHA-256 that it is named by; what ranges of it are
verified by from then on is made meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from coldfuse.aggregator.model import Base
from coldfuse.core.blob import Blob, Part
from coldfuse.engine.execution import Executor
from coldfuse.registry.federation import Federation
from coldfuse.tensors.checkpoint import open_release
from coldfuse.tensors.checks import PIECE_BYTES
from coldfuse.tensors.stores import federation_store
from coldfuse.tensors.verified import scan_part

MakeChecks = Callable[[Sequence[Blob]], list[str | None]]
"""make_checks(files): makes and stores the checks of files, and returns their names, None where none are needed."""


def make_checks(federation: Federation, executor: Executor, files: Sequence[Blob]) -> list[str | None]:
    """Read files whole, verify them, and store their checks; return the checks' names, None where none are needed.

    Raises:
        DamagedObjectError: A part is damaged.
        StorageError: The store is away.
    """
    parts = sorted({part for file in files for part in file.parts if part.size_bytes > PIECE_BYTES}, key=_digest_of)
    lists = {parts[index].digest: made for index, made in executor.run(check_part, federation.store.url, parts)}
    objects = federation.objects
    return [objects.put_checks([lists.get(part.digest, b"") for part in file.parts]) for file in files]


def check_part(store_url: str, part: Part) -> bytes:
    """Read a part whole, verify it, and return its list of checks: what a task does; raises as `make_checks`."""
    return scan_part(federation_store(store_url), part)


def with_checks(federation: Federation, base: Base, executor: Executor) -> Base:
    """Return a base of which every file has its checks, its state's too; raises as `make_checks`."""
    release = base.release
    files = _unchecked(release.files, release.checks)
    kept = _unchecked(release.outer.files, release.outer.checks) if release.outer else {}
    if not files and not kept:
        return base
    made = make_checks(federation, executor, [*files.values(), *kept.values()])
    roots = dict(zip([("", name) for name in files] + [("outer", name) for name in kept], made, strict=True))
    checks = release.checks | {name: root for (place, name), root in roots.items() if root and not place}
    outer = release.outer
    if outer:
        own = {name: root for (place, name), root in roots.items() if root and place}
        outer = outer.model_copy(update={"checks": outer.checks | own})
    release = release.model_copy(update={"checks": checks, "outer": outer})
    return replace(base, release=release, checkpoint=open_release(federation.store.url, release))


def needs_checks(file: Blob) -> bool:
    """Tell whether a file has a part that is larger than what is verified at once."""
    return any(part.size_bytes > PIECE_BYTES for part in file.parts)


def _unchecked(files: Mapping[str, Blob], checks: Mapping[str, str]) -> dict[str, Blob]:
    return {name: blob for name, blob in files.items() if name not in checks and needs_checks(blob)}


def _digest_of(part: Part) -> str:
    return part.digest
