"""Which element of an FP8 weight has which scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from coldfuse.core.schema import FUSED_DTYPES, TensorSpec
from coldfuse.errors import SchemaMismatchError

_SCALE_DTYPES = FUSED_DTYPES | {"F8_E8M0"}

_USUAL_BLOCK = (128, 128)
"""What transformers takes where the configuration does not say it."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Which element has which scale. A tensor of more dimensions is a stack of matrices."""

    rows: int
    """Rows of one matrix."""
    columns: int
    scale_rows: int
    """Rows of the scales of one matrix."""
    scale_columns: int
    block_rows: int
    """Number of rows, and of columns, that have one scale; the last block may be smaller."""
    block_columns: int


def grid_of(weight: TensorSpec, scale: TensorSpec, blocks: Sequence[tuple[int, int]], *, what: str) -> Grid:
    """Return which element has which scale, by the shapes of both and the sizes of blocks that are configured.

    Args:
        weight: The weight.
        scale: Its scales: one for all, one a row, or one a block; of a stack of matrices, that for each.
        blocks: Rows and columns that a block may have.
        what: The weight's name, for errors.

    Raises:
        SchemaMismatchError: The scales do not fit the weight.
    """
    *stack, rows, columns = weight.shape if len(weight.shape) > 1 else (1, weight.num_elements)
    shape, has_numbers = list(scale.shape), weight.num_elements > 0 and scale.dtype in _SCALE_DTYPES
    if math.prod(shape) == 1:
        rows, stack, shape = weight.num_elements // max(columns, 1), [], [1, 1]
    elif shape == [*stack, rows]:  # of rows, without a dimension for columns
        shape = [*shape, 1]
    elif stack and shape == stack:  # of whole matrices
        shape = [*shape, 1, 1]
    fits = has_numbers and len(shape) == len(stack) + 2 and shape[:-2] == stack
    for block_rows, block_columns in [*blocks, (1, columns), (rows, columns)] if fits else ():
        if [-(-rows // block_rows), -(-columns // block_columns)] == shape[-2:]:
            return Grid(
                rows=rows, columns=columns, scale_rows=shape[-2], scale_columns=shape[-1],
                block_rows=min(block_rows, rows), block_columns=min(block_columns, columns),
            )  # fmt: skip
    raise SchemaMismatchError(
        f"{what} of shape {list(weight.shape)} has scales of shape {list(scale.shape)} ({scale.dtype}): "
        f"expected one of a tensor, of each row, or of blocks of {' or '.join(f'{a} x {b}' for a, b in blocks)}"
    )


def blocks_of(settings: Mapping[str, object]) -> list[tuple[int, int]]:
    """Return the sizes of blocks, rows and columns, that a `quantization_config` names."""
    groups = settings.get("config_groups")
    told: list[object] = [settings.get("weight_block_size")]
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            told += [weights.get("block_structure"), [1, weights.get("group_size")]]
    sizes = [(a, b) for value in told for a, b in _pairs(value)]
    return list(dict.fromkeys(sizes)) or [_USUAL_BLOCK]


def _pairs(value: object) -> Iterator[tuple[int, int]]:
    match value:
        case [int(a), int(b)] if a > 0 and b > 0:
            yield a, b
