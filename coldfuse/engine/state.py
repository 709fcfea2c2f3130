"""What is kept between rounds: the outer steps' numbers, and the residual of rounding.

Beside each of the model's files there is one file a slot, `<slot>/<file>`, with the same tensors in float32. Its parts
hold the same elements as the model's parts, so that a task that makes a part of the model makes its state. In a store
the files are named by the release (`OuterState`); beside a model folder they lie in `outer/`, with `outer/state.json`,
which names the model and the steps that they belong to: for another model, or to other steps, they mean nothing.

The residual is what rounding to the base's dtype dropped: θ_exact = θ + r. The next fusion adds it before it rounds
again, so that many small steps move a bfloat16 base as far as they would move a float32 one. Only tensors of narrow
dtypes have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from coldfuse.core.contribution import Count
from coldfuse.core.dtypes import to_floats
from coldfuse.core.schema import TensorSpec
from coldfuse.core.serialization import decode
from coldfuse.core.value import Digest, Value
from coldfuse.engine.operands import Operands, operands
from coldfuse.engine.plan import NARROW_DTYPES, RESIDUAL, STATE_DTYPE, Shard, has_state
from coldfuse.engine.recipes import known_methods, read_recipe
from coldfuse.errors import CodecError, FusionError, SchemaMismatchError, UserInputError
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.files import BlobFile, opened
from coldfuse.tensors.folders import existing
from coldfuse.tensors.header import Header, TensorEntry, format_header
from coldfuse.tensors.tensor_file import TensorFile, open_tensors

FOLDER = "outer"
"""Name of the folder beside a model's files in which its state lies."""

INDEX = f"{FOLDER}/state.json"
"""Name of the file that says whose the state is."""

_READ_BYTES = 4 << 20
"""Number of bytes of a state that are looked at in one go."""


class StateIndex(Value):
    """The content of `state.json`."""

    age: Count
    """Number of fusions that the outer steps' numbers have seen."""
    slots: tuple[str, ...]
    """Names of the slots, in the order of the recipe, the residual last."""
    outers: tuple[str, ...] | None = None
    """Names of the outer steps that made the numbers; None in files of versions that did not write it."""
    model: Digest | None = None
    """Digest of the model that the numbers belong to; None in files of versions that did not write it."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What a base carries of earlier fusions, and what the next one is to keep."""

    slots: tuple[str, ...] = ()
    """Names of the slots that are kept: those of the recipe's outer steps, and perhaps the residual."""
    age: int = 0
    """Number of fusions that the outer steps' numbers have seen."""
    files: Mapping[str, tuple[TensorFile, ...]] = field(default_factory=dict)
    """The files of each slot for which there are numbers already."""

    @property
    def operands(self) -> list[Operands | None]:
        """Where each slot's numbers lie; None where there are none yet."""
        return [operands(self.files[slot], is_delta=True) if slot in self.files else None for slot in self.slots]


def slots_of(recipe: Recipe, base: Checkpoint, *, keeps_residual: bool) -> tuple[str, ...]:
    """Return the names of the slots that a fusion keeps.

    Args:
        recipe: What is done; its outer steps come first.
        base: The model that is moved: one of wide dtypes alone has no residual.
        keeps_residual: True to keep the residual where there may be one.
    """
    is_narrow = any(spec.is_fused and spec.dtype in NARROW_DTYPES for spec in base.schema.values())
    return (*recipe.slots, *([RESIDUAL] if keeps_residual and is_narrow else []))


def state_header(model: Header, slot: str) -> bytes:
    """Return the first bytes of a slot's file beside one of the model's files, whose header this is."""
    entries = [entry for entry in model.tensors if entry.spec.is_fused and has_state(slot, entry.spec.dtype)]
    specs = [(entry.name, TensorSpec(dtype=STATE_DTYPE, shape=entry.spec.shape)) for entry in entries]
    return format_header(specs, {"format": "coldfuse-outer", "slot": slot})


def state_name(slot: str, file: str) -> str:
    """Return the name of a slot's file beside one of the model's files; see `FOLDER` for where it lies in a folder."""
    return f"{slot}/{file}"


def part_starts(slot: str, header_bytes: int, shards: Iterable[Shard]) -> tuple[dict[int, int], int]:
    """Say where in a slot's file the numbers of each part of the model's file lie.

    Args:
        slot: Name of the slot.
        header_bytes: Size of the slot file's header.
        shards: The shards that make the model's file.

    Returns:
        The byte at which each part's numbers begin, by the part's index, and the size of the slot's file.
    """
    starts: dict[int, int] = {}
    end = header_bytes
    for part in (part for shard in shards for part in shard.parts):
        starts[part.index] = end
        end += part.num_kept(slot) * 4
    return starts, end


def open_release_state(
    base: Checkpoint, recipe: Recipe, kept: Mapping[str, BlobFile], age: int, *, made_by: str
) -> State:
    """Return the state that a release carries; numbers of other outer steps than the recipe's begin anew.

    Args:
        base: The release's model.
        recipe: What is to be done.
        kept: The files of the release's state, by `state_name`; empty if it carries none.
        age: Number of fusions that those files have seen.
        made_by: The recipe by which the release was made. Slots of one name may hold numbers of different meanings.
    """
    slots = slots_of(recipe, base, keeps_residual=True)
    held = {name.split("/", 1)[0] for name in kept}
    usable = [slot for slot in slots if slot in held]
    # The residual is the model's, whatever the steps were.
    is_own = held - {RESIDUAL} == set(recipe.slots) and (
        not recipe.slots or outers_of(read_recipe(made_by)) == outers_of(recipe)
    )
    files = {
        slot: tuple(open_tensors(kept[state_name(slot, file)]) for file in base.files)
        for slot in usable
        if is_own or slot == RESIDUAL
    }
    return State(slots=slots, age=age if is_own else 0, files=files)


def open_folder_state(base: Checkpoint, recipe: Recipe, *, keeps_residual: bool) -> State:
    """Return the state that a model folder carries. To tell whose it is, the whole base is read, once.

    Args:
        base: The model folder.
        recipe: What is to be done.
        keeps_residual: True if the user asked for it; where the recipe or the folder keeps state, it is kept anyway.

    Raises:
        UserInputError: The state was made by other outer steps, or is another model's.
        SchemaMismatchError: A file of the state does not have the tensors of the model's file.
        CodecError: A file of the state is damaged.
    """
    check_outers(base, recipe)
    index = read_index(base)
    carries_residual = index is not None and RESIDUAL in index.slots
    slots = slots_of(recipe, base, keeps_residual=keeps_residual or carries_residual or bool(recipe.slots))
    used = [slot for slot in slots if index and slot in index.slots]
    own = () if index is None else tuple(slot for slot in index.slots if slot != RESIDUAL)
    if index is None or not (used or recipe.slots):
        return State(slots=slots)
    if recipe.slots and own and own != recipe.slots:
        raise _not_its_own(base, f"holds {', '.join(own)}, and this method keeps {', '.join(recipe.slots)}")
    if index.model is None:
        raise _not_its_own(base, "does not say which model it belongs to, as those of older versions")
    if index.model != base.digest():
        raise _not_its_own(base, "belongs to another model: somebody has saved this one over it")
    files = {slot: tuple(_open_slot(base, slot, file) for file in base.files) for slot in used}
    return State(slots=slots, age=index.age if own and recipe.slots else 0, files=files)


def check_outers(base: Checkpoint, recipe: Recipe) -> None:
    """Raise `UserInputError` if other steps than the recipe's made the state that a base carries.

    Two steps may keep numbers of different meanings in a slot of one name, so the slots' names do not suffice.
    """
    index = read_index(base) if recipe.slots else None
    if index is None or set(index.slots) <= {RESIDUAL}:  # the residual is the model's, whatever the steps were
        return
    if index.outers is None:
        raise _not_its_own(base, "does not say which steps made it, as those of older versions")
    if index.outers != outers_of(recipe):
        made, wanted = ", ".join(index.outers), ", ".join(outers_of(recipe))
        raise _not_its_own(base, f"was made by {made or 'no outer step'}, and this is {wanted}")


@contextmanager
def blaming(state: State) -> Iterator[None]:
    """Blame a broken state for what fails in the block because of it.

    NaN in a state makes the fused model NaN, which looks like a fault of the contributions. The state is read only
    after such an error, so that this costs nothing where all is well.

    Raises:
        CodecError: The block raised `FusionError`, and the state holds NaN or infinity.
    """
    try:
        yield
    except FusionError:
        for file in (file for files in state.files.values() for file in files):
            for entry in file.header.tensors:
                if not _is_finite(file, entry):
                    raise CodecError(
                        f"{file}: tensor {entry.name}: the outer state is broken, it holds NaN or infinity; remove "
                        f"the folder {FOLDER} to start anew"
                    ) from None
        raise


def read_index(base: Checkpoint) -> StateIndex | None:
    """Return what a folder says of its state; None if it has none."""
    data = base.read(INDEX)
    return None if data is None else decode(StateIndex, data, what=f"{base.folder}/{INDEX}")


def outers_of(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the outer steps that keep numbers."""
    return tuple(known_methods().name_of(type(outer)) for outer in recipe.outers if outer.slots)


def _open_slot(base: Checkpoint, slot: str, name: str) -> TensorFile:
    file = open_tensors(existing(base.folder, f"{FOLDER}/{state_name(slot, name)}"))
    entries = [entry for entry in base.files[name].header.tensors if entry.spec.is_fused]
    wanted = {entry.name: entry.spec.shape for entry in entries if has_state(slot, entry.spec.dtype)}
    if {entry.name: entry.spec.shape for entry in file.header.tensors} != wanted:
        raise SchemaMismatchError(f"{file}: does not have the tensors of {name}; remove the folder {FOLDER}")
    return file


def _not_its_own(base: Checkpoint, why: str) -> UserInputError:
    where = f"{base.folder}/{FOLDER}"
    return UserInputError(f"{where}: the outer state {why}; remove the folder {where} to start anew")


def _is_finite(file: TensorFile, entry: TensorEntry) -> bool:
    end = entry.start + entry.spec.size_bytes
    with opened(file.file) as reader:
        for start in range(entry.start, end, _READ_BYTES):
            raw = np.empty(min(_READ_BYTES, end - start), np.uint8)
            reader.read_into(raw.data, start)
            if not np.isfinite(to_floats(raw, entry.spec.dtype)).all():
                return False
    return True


def sources_of(state: State) -> Sequence[TensorFile]:
    """Return all files of a state."""
    return [file for files in state.files.values() for file in files]
