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
from coldfuse.tensors.blobs import put_part
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.stores import federation_store

NOTHING = Part(digest=sha256(b""), size_bytes=0)
"""The state of a part without elements in a slot: no object."""


class Writer(Protocol):
    """Writes parts, in any process."""

    def write(self, file: str, fused: FusedBytes) -> tuple[Part, ...]:
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

    def write(self, file: str, fused: FusedBytes) -> tuple[Part, ...]:
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
    """Digests of objects that the store has for sure: the base's headers, which mostly are the release's."""
    _begun: tuple[Layout, Plan, tuple[str, ...]] | None = field(default=None, repr=False)

    def begin(self, layout: Layout, plan: Plan, slots: tuple[str, ...]) -> Writer:
        """Remember what is made."""
        self._begun = layout, plan, slots
        return StoreWriter(self.store_url)

    def end(self, digest: str, fusion: Fusion) -> None:
        """Do nothing: a release names the parts."""

    def files(self, parts: Mapping[tuple[str, int], tuple[Part, ...]]) -> dict[str, Blob]:
        """Return the model's safetensors files, given the parts as `Fused.parts` has them."""
        layout, plan, _ = self._required()
        return {
            file: self._blob(head, [parts[file, index][0] for index in _indices(plan, file)])
            for file, head in layout.heads.items()
        }

    def state(self, parts: Mapping[tuple[str, int], tuple[Part, ...]], *, age: int) -> OuterState | None:
        """Return what is kept for the next round; None if the recipe keeps nothing.

        Args:
            parts: The parts as `Fused.parts` has them.
            age: Number of fusions that the outer steps' numbers have seen.
        """
        layout, plan, slots = self._required()
        if not slots:
            return None
        files = {}
        for number, slot in enumerate(slots, start=1):
            for file, header in layout.headers.items():
                found = [parts[file, index][number] for index in _indices(plan, file)]
                blob = self._blob(state_header(header, slot), [part for part in found if part.size_bytes])
                files[state_name(slot, file)] = blob
        return OuterState(age=age, files=files)

    def _blob(self, head: bytes, parts: list[Part]) -> Blob:
        part = Part(digest=sha256(head), size_bytes=len(head))
        if part.digest not in self.there:
            self.objects.put(part.digest, head)
        return Blob(parts=(part, *parts))

    def _required(self) -> tuple[Layout, Plan, tuple[str, ...]]:
        if self._begun is None:
            raise ValueError("nothing was fused into this sink")
        return self._begun


@dataclass(frozen=True)
class StoreWriter:
    """Puts each part under its digest. Putting what is there already changes nothing."""

    store_url: str

    def write(self, file: str, fused: FusedBytes) -> tuple[Part, ...]:  # noqa: ARG002  # an object needs no file
        """Put a part and its state."""
        put = Objects(federation_store(self.store_url)).put
        state = (put_part(data, put) if len(data) else NOTHING for data in fused.state.values())
        return put_part(fused.data, put), *state


def _indices(plan: Plan, file: str) -> list[int]:
    shards = all_shards({file: plan[file]})
    return [part.index for shard in shards for part in shard.parts]


def _write(path: Path, start: int, data: memoryview) -> None:
    with open(path, "r+b") as file:
        file.seek(start)
        file.write(data)
