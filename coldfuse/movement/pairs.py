"""Two models side by side: the tensors that both have, and where each lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coldfuse.core.left_out import LeftOut
from coldfuse.core.schema import FUSED_DTYPES, Schema
from coldfuse.engine.inputs import open_input
from coldfuse.engine.operands import Operands
from coldfuse.engine.tied import find_tied
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.checkpoint import Checkpoint, Place
from coldfuse.tensors.dequantised import open_as_floats
from coldfuse.tensors.folders import Location

Places = Mapping[str, Place]
"""Where tensors lie, by names that are the same for all models that are compared."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models, tensor by tensor, by the first one's names; tied tensors are one."""

    before: Places
    after: Places
    tied: Mapping[str, str]
    """The tensor that each copy is a copy of, by the copy's name."""
    schema: Schema
    """Every tensor of the first one, copies, too."""
    left_out: tuple[LeftOut, ...] = ()
    """What only one of them has."""


def pair_models(before: Checkpoint, location: Location) -> Pair:
    """Fit a second model to a first one: what takes part in a fusion is what is compared.

    Args:
        before: The first model.
        location: Where the second one lies.

    Raises:
        SchemaMismatchError: It is no fine-tuned copy of the first one; the message names the tensor.
        UserInputError: It is no model.
    """
    before = open_as_floats(before)
    tied = find_tied(before)
    given = open_input(before, location, 1.0, tied=tied)
    operands = given.operands
    if given.is_delta or not isinstance(operands, Operands):
        raise UserInputError(
            f"{location}: a change of a model, and no model; compare two models: fuse it first (coldfuse fuse)"
        )
    return Pair(
        before=_first_ones(before, tied),
        after=operands.tensors,
        left_out=given.left_out,
        tied=tied,
        schema=before.schema,
    )


def pair_releases(before: Checkpoint, after: Checkpoint) -> Pair:
    """Put two releases of one federation side by side, which have the same tensors.

    Raises:
        SchemaMismatchError: They have not.
    """
    if before.schema != after.schema:
        differing = sorted(before.schema.items() ^ after.schema.items(), key=lambda item: item[0])
        raise SchemaMismatchError(
            f"{after.folder}: tensor {differing[0][0][:200]!r} is not as {before.folder} has it; releases of one chain "
            "have the same tensors"
        )
    tied = find_tied(before)
    return Pair(before=_first_ones(before, tied), after=after.places, tied=tied, schema=before.schema)


def _first_ones(model: Checkpoint, tied: Mapping[str, str]) -> Places:
    """Return where a model's tensors lie, in the order of its files, without copies of others."""
    return {name: place for name, place in model.places.items() if name not in tied}


def is_measured(place: Place) -> bool:
    """Tell whether a tensor has numbers of which distances are made."""
    spec = place[1].spec
    return spec.dtype in FUSED_DTYPES and spec.num_elements > 0
