"""The outers' state beside a model folder: `outer/state.json` and `outer/<slot>/<file>`.

A folder that `coldfuse fuse` wrote with an outer step carries it, and goes on from there when it is the next base.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfuse.aggregator.engine.fuse import FusedBytes
from coldfuse.aggregator.engine.job import Fusion
from coldfuse.aggregator.engine.outer_state import file_bytes, part_starts, state_header, state_name
from coldfuse.aggregator.engine.plan import Operands, Plan, operands
from coldfuse.aggregator.folders.remote_folder import Folder, open_file, place_in, read_plain
from coldfuse.codec.header import Header
from coldfuse.codec.manifests import canonical_json, decode
from coldfuse.core.contribution import Count
from coldfuse.core.value import Value
from coldfuse.errors import SchemaMismatchError

FOLDER = "outer"


class StateIndex(Value):
    """The content of `state.json`."""

    age: Count
    """Steps that the state has seen."""
    slots: tuple[str, ...]


@dataclass(frozen=True)
class LocalState:
    """A base's state, or none yet."""

    age: int = 0
    operands: tuple[Operands, ...] = ()
    """One a slot."""


def open_state(folder: Folder, slots: Sequence[str]) -> LocalState:
    """Open the state that a base carries, if it is of these slots."""
    name = f"{FOLDER}/state.json"
    data = read_plain(folder, name) if slots else None
    if data is None:
        return LocalState()
    index = decode(StateIndex, data, what=str(place_in(folder, name)))
    if index.slots != tuple(slots):
        return LocalState()
    found = []
    for slot in slots:
        sources = []
        for file, header in folder.headers.items():
            source = open_file(place_in(folder, f"{FOLDER}/{state_name(slot, file)}"))
            wanted = {entry.name: entry.spec.shape for entry in header.tensors if entry.spec.is_fused}
            if {entry.name: entry.spec.shape for entry in source.header.tensors} != wanted:
                raise SchemaMismatchError(f"{source}: does not have the tensors of {file}; remove the folder {FOLDER}")
            sources.append(source)
        found.append(operands(sources, is_delta=True))
    return LocalState(index.age, tuple(found))


def begin_state(out: Path, headers: Mapping[str, Header], plan: Plan, fusion: Fusion) -> dict[str, dict[int, int]]:
    """Create the new state's files; return where each part's numbers begin in each."""
    slots = fusion.recipe.slots
    starts: dict[str, dict[int, int]] = {}
    for slot in slots:
        for file, header in headers.items():
            data, path = state_header(header, slot), out / FOLDER / state_name(slot, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "wb") as state:
                state.write(data)
                state.truncate(file_bytes(len(data), plan[file]))
            starts[state_name(slot, file)] = part_starts(len(data), plan[file])
    if slots:
        index = StateIndex(age=fusion.age + 1, slots=slots)
        (out / FOLDER / "state.json").write_bytes(canonical_json(index.model_dump()))
    return starts


def write_state(out: Path, file: str, starts: Mapping[str, Mapping[int, int]], fused: FusedBytes) -> None:
    """Write a part's state at its place."""
    names = [name for name in starts if name.split("/", 1)[1] == file]
    for name, data in zip(names, fused.state, strict=True):
        with open(out / FOLDER / name, "r+b") as state:
            state.seek(starts[name][fused.part.index])
            state.write(data)
