"""The outers' state beside a model folder: `outer/state.json` and `outer/<slot>/<file>`.

A folder that `coldfuse fuse` wrote with an outer step carries it, and goes on from there when it is the next base. The
state names the model and the steps that it belongs to: for another model, or to other steps, its numbers mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coldfuse.core.contribution import Count
from coldfuse.core.dtypes import to_floats
from coldfuse.core.serialization import canonical_json, decode
from coldfuse.core.value import Digest, Value
from coldfuse.engine.folders.contents import FileSource
from coldfuse.engine.folders.remote_folder import Folder, open_file, place_in, read_plain
from coldfuse.engine.fuse import FusedBytes
from coldfuse.engine.job import Fusion
from coldfuse.engine.outer_state import file_bytes, part_starts, state_header, state_name
from coldfuse.engine.plan import Operands, Plan, operands
from coldfuse.engine.recipes import known_methods
from coldfuse.errors import CodecError, FusionError, SchemaMismatchError, UserInputError
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.header import Header, TensorEntry

FOLDER = "outer"
_INDEX = f"{FOLDER}/state.json"

_READ_BYTES = 4 << 20


class StateIndex(Value):
    """The content of `state.json`."""

    age: Count
    """Steps that the state has seen."""
    slots: tuple[str, ...]
    outers: tuple[str, ...] | None = None
    """Names of the steps that made it; None: it is of a time when that was not written."""
    model: Digest | None = None
    """Digest of the model that it belongs to; None as above."""


@dataclass(frozen=True)
class LocalState:
    """A base's state, or none yet."""

    age: int = 0
    operands: tuple[Operands, ...] = ()
    """One a slot."""
    files: tuple[FileSource, ...] = ()
    """Of all slots."""


def open_state(folder: Folder, slots: Sequence[str]) -> LocalState:
    """Open the state that a base carries. Raises `UserInputError` if it is of other slots, or of another model.

    To tell, the whole base is read, once.
    """
    index = _read_index(folder) if slots else None
    if index is None:
        return LocalState()
    if index.slots != tuple(slots):
        raise _not_its_own(folder, f"holds {', '.join(index.slots)}, and this method keeps {', '.join(slots)}")
    if index.model is None:
        raise _not_its_own(folder, "does not say which model it belongs to, as those of older versions")
    if index.model != folder.digest():
        raise _not_its_own(folder, "belongs to another model: somebody has saved this one over it")
    files = [_open_slot(folder, slot) for slot in slots]
    slot_operands = tuple(operands(sources, is_delta=True) for sources in files)
    return LocalState(index.age, slot_operands, tuple(source for sources in files for source in sources))


def check_outers(folder: Folder, recipe: Recipe) -> None:
    """Raise `UserInputError` if other steps than the recipe's made the state that a base carries.

    Steps may keep numbers under the same name that mean other things.
    """
    index = _read_index(folder) if recipe.slots else None
    if index is None:
        return
    if index.outers is None:
        raise _not_its_own(folder, "does not say which steps made it, as those of older versions")
    if index.outers != _outers(recipe):
        raise _not_its_own(folder, f"was made by {', '.join(index.outers)}, and this is {', '.join(_outers(recipe))}")


@contextmanager
def blaming(state: LocalState) -> Iterator[None]:
    """Raise `CodecError` instead of what a broken state makes a fusion fail with, which names the wrong thing."""
    try:
        yield
    except FusionError:
        for source in state.files:
            for entry in source.header.tensors:
                if not _is_finite(source, entry):
                    raise CodecError(
                        f"{source}: tensor {entry.name}: the outer state is broken, it holds NaN or infinity; remove "
                        f"the folder {FOLDER} to start anew"
                    ) from None
        raise


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
    return starts


def write_state(out: Path, file: str, starts: Mapping[str, Mapping[int, int]], fused: FusedBytes) -> None:
    """Write a part's state at its place."""
    names = [name for name in starts if name.split("/", 1)[1] == file]
    for name, data in zip(names, fused.state, strict=True):
        with open(out / FOLDER / name, "r+b") as state:
            state.seek(starts[name][fused.part.index])
            state.write(data)


def end_state(out: Path, fusion: Fusion, digest: str) -> None:
    """Say which model the new state belongs to, once that has a digest."""
    if slots := fusion.recipe.slots:
        index = StateIndex(age=fusion.age + 1, slots=slots, outers=_outers(fusion.recipe), model=digest)
        (out / _INDEX).write_bytes(canonical_json(index.model_dump(exclude_none=True)))


def _read_index(folder: Folder) -> StateIndex | None:
    data = read_plain(folder, _INDEX)
    return None if data is None else decode(StateIndex, data, what=str(place_in(folder, _INDEX)))


def _open_slot(folder: Folder, slot: str) -> list[FileSource]:
    sources = []
    for file, header in folder.headers.items():
        source = open_file(place_in(folder, f"{FOLDER}/{state_name(slot, file)}"))
        wanted = {entry.name: entry.spec.shape for entry in header.tensors if entry.spec.is_fused}
        if {entry.name: entry.spec.shape for entry in source.header.tensors} != wanted:
            raise SchemaMismatchError(f"{source}: does not have the tensors of {file}; remove the folder {FOLDER}")
        sources.append(source)
    return sources


def _outers(recipe: Recipe) -> tuple[str, ...]:
    names = {kind: name for name, kind in known_methods().items()}
    return tuple(names.get(type(outer), type(outer).__name__) for outer in recipe.outers if outer.slots)


def _not_its_own(folder: Folder, why: str) -> UserInputError:
    where = place_in(folder, FOLDER)
    return UserInputError(f"{where}: the outer state {why}; remove the folder {where} to start anew")


def _is_finite(source: FileSource, entry: TensorEntry) -> bool:
    end = entry.start + entry.spec.size_bytes
    with source.open() as file:
        for start in range(entry.start, end, _READ_BYTES):
            raw = np.empty(min(_READ_BYTES, end - start), np.uint8)
            file.read_into(raw.data, start)
            if not np.isfinite(to_floats(raw, entry.spec.dtype)).all():
                return False
    return True
