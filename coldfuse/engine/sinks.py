"""Where the parts of a fused model go: objects in a federation's store, or files in a folder.

A sink is used by who drives the fusion; the writer that it gives is handed to the tasks, on whatever machine they run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from coldfuse.core.blob import Blob, Part
from coldfuse.core.release import OuterState
from coldfuse.core.serialization import canonical_json, sha256
from coldfuse.engine.job import Fusion
from coldfuse.engine.outputs import Layout, begin_files
from coldfuse.engine.plan import Plan, all_shards
from coldfuse.engine.shard import FusedBytes
from coldfuse.engine.state import FOLDER, INDEX, StateIndex, outers_of, part_starts, state_header, state_name
from coldfuse.registry.objects import Objects
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.checks import make_list
from coldfuse.tensors.stores import federation_store


@dataclass(frozen=True)
class Written:
    """A part as it was written, and what ranges of it are verified by."""

    part: Part
    checks: bytes


NOTHING = Written(Part(digest=sha256(b""), size_bytes=0), b"")
"""The state of a part without elements in a slot: no object."""


class Writer(Protocol):
    """Writes parts, in any process."""

    def write(self, file: str, fused: FusedBytes) -> tuple[Written, ...]:
        """Write a part and its state.

        Args:
            file: Name of the file that the part belongs to.
            fused: The part as it was made, in buffers that the next part is made in.

        Returns:
            Where they lie, if they are objects: the part, then each slot's numbers.
        """


class Sink(Protocol):
    """Takes what a fusion makes."""

    def begin(self, layout: Layout, plan: Plan, slots: tuple[str, ...]) -> Writer:
        """Make ready for the parts of a fusion.

        Args:
            layout: The files that are written.
            plan: The shards that make them.
            slots: Names of the slots whose numbers are kept.

        Returns:
            What writes the parts, in any process that sees this sink's place.
        """

    def end(self, digest: str, fusion: Fusion) -> None:
        """Finish, once all parts are written and the model's digest is known."""


@dataclass(frozen=True)
class FolderSink:
    """Writes a model folder, with its state in `outer/`."""

    out: Path
    """The folder, which exists."""
    base: Checkpoint
    """The base, whose configuration and tokenizer are copied."""

    def begin(self, layout: Layout, plan: Plan, slots: tuple[str, ...]) -> Writer:
        """Create all files in their final sizes."""
        begin_files(self.out, layout, self.base)
        starts: dict[str, dict[int, int]] = {}
        for slot in slots:
            for file, header in layout.headers.items():
                head, name = state_header(header, slot), state_name(slot, file)
                starts[name], size = part_starts(slot, len(head), plan[file])
                path = self.out / FOLDER / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as state:
                    state.write(head)
                    state.truncate(size)
        return FolderWriter(self.out, starts)

    def end(self, digest: str, fusion: Fusion) -> None:
        """Say which model the new state belongs to."""
        if fusion.slots:
            index = StateIndex(age=fusion.age + 1, slots=fusion.slots, outers=outers_of(fusion.recipe), model=digest)
            (self.out / INDEX).write_bytes(canonical_json(index.model_dump(exclude_none=True)))


@dataclass(frozen=True)
class FolderWriter:
    """Writes parts at their places in a folder's files."""

    out: Path
    state_starts: Mapping[str, Mapping[int, int]]
    """The byte at which each part's numbers begin, by the name of the state's file and the part's index."""

    def write(self, file: str, fused: FusedBytes) -> tuple[Written, ...]:
        """Write a part and its state."""
        _write(self.out / file, fused.part.start, fused.data)
        for slot, data in fused.state.items():
            name = state_name(slot, file)
            _write(self.out / FOLDER / name, self.state_starts[name][fused.part.index], data)
        return ()


@dataclass
class StoreSink:
    """Writes objects into a federation's store; nothing is visible until a release names them."""

    objects: Objects
    """The store's objects, for what this process writes."""
    store_url: str
    """The store's address, for what tasks write."""
    there: Collection[str] = ()
    """Digests of objects that the store has for sure, the base's parts: what nobody changes is not written again."""
    is_dry: bool = False
    """True if tasks write nothing, and name alone what they would write."""
    _begun: tuple[Layout, Plan, tuple[str, ...]] | None = field(default=None, repr=False)

    def begin(self, layout: Layout, plan: Plan, slots: tuple[str, ...]) -> Writer:
        """Remember what is made."""
        self._begun = layout, plan, slots
        return StoreWriter(self.store_url, frozenset(self.there), self.is_dry)

    def end(self, digest: str, fusion: Fusion) -> None:
        """Do nothing: a release names the parts."""

    def files(self, parts: Mapping[tuple[str, int], tuple[Written, ...]]) -> tuple[dict[str, Blob], dict[str, str]]:
        """Return the model's files and the names of their checks, given the parts as `Fused.parts` has them."""
        layout, plan, _ = self._required()
        return self._named({
            file: self._store_head(head, [parts[file, index][0] for index in _indices(plan, file)])
            for file, head in layout.heads.items()
        })  # fmt: skip

    def state(self, parts: Mapping[tuple[str, int], tuple[Written, ...]], *, age: int) -> OuterState | None:
        """Return what is kept for the next round; None if the recipe keeps nothing.

        Args:
            parts: The parts as `Fused.parts` has them.
            age: Number of fusions that the outer steps' numbers have seen.
        """
        layout, plan, slots = self._required()
        if not slots:
            return None
        found = {}
        for number, slot in enumerate(slots, start=1):
            for file, header in layout.headers.items():
                written = [parts[file, index][number] for index in _indices(plan, file)]
                kept = self._store_head(state_header(header, slot), [one for one in written if one.part.size_bytes])
                found[state_name(slot, file)] = kept
        files, checks = self._named(found)
        return OuterState(age=age, files=files, checks=checks)

    def _store_head(self, head: bytes, parts: list[Written]) -> list[Written]:
        part = Part(digest=sha256(head), size_bytes=len(head))
        if part.digest not in self.there:
            self.objects.put(part.digest, head)
        return [Written(part, make_list(head)), *parts]

    def _named(self, files: Mapping[str, list[Written]]) -> tuple[dict[str, Blob], dict[str, str]]:
        blobs = {name: Blob(parts=tuple(one.part for one in written)) for name, written in files.items()}
        roots = {name: self.objects.put_checks([one.checks for one in written]) for name, written in files.items()}
        return blobs, {name: root for name, root in roots.items() if root is not None}

    def _required(self) -> tuple[Layout, Plan, tuple[str, ...]]:
        if self._begun is None:
            raise ValueError("nothing was fused into this sink")
        return self._begun


@dataclass(frozen=True)
class StoreWriter:
    """Puts each part under its digest. Putting what is there already changes nothing."""

    store_url: str
    there: Collection[str] = frozenset()
    """Digests of the base's parts, which were read, and verified, to make this."""
    is_dry: bool = False
    """True to write nothing."""
    _written: set[str] = field(default_factory=set, repr=False, compare=False)
    """Digests of what was put here before: a state that begins is the same zeros many times."""

    def write(self, file: str, fused: FusedBytes) -> tuple[Written, ...]:  # noqa: ARG002  # an object needs no file
        """Put a part and its state."""
        objects = Objects(federation_store(self.store_url))

        def put(data: memoryview) -> Written:
            part = Part(digest=sha256(data), size_bytes=len(data))
            if not self.is_dry and part.digest not in self.there and part.digest not in self._written:
                objects.put(part.digest, data)
                self._written.add(part.digest)
            return Written(part, make_list(data))

        return put(fused.data), *(put(data) if len(data) else NOTHING for data in fused.state.values())


def _indices(plan: Plan, file: str) -> list[int]:
    shards = all_shards({file: plan[file]})
    return [part.index for shard in shards for part in shard.parts]


def _write(path: Path, start: int, data: memoryview) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data)
