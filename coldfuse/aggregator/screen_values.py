"""Look at every number of a delta: those that are stored, and those that factors and the like expand to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.aggregator.meter import Meter
from coldfuse.core.blob import Blob
from coldfuse.core.dtypes import SAFE_CHANGE, Floats, to_floats
from coldfuse.core.schema import Schema
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.job import MOST_FACTOR_BYTES
from coldfuse.engine.multiplying import add_product
from coldfuse.engine.variances import Variances, makes_negative
from coldfuse.errors import CodecError, ContributionRejectedError
from coldfuse.fusion.apply import surely_finite
from coldfuse.tensors.checks import make_list
from coldfuse.tensors.encodings import DENSE, Encoded, part_name
from coldfuse.tensors.header import Header
from coldfuse.tensors.parts import PartLayout, plan_parts
from coldfuse.tensors.tensor_file import TensorFile
from coldfuse.tensors.tensor_reader import TensorReader
from coldfuse.tensors.verified import VerifiedReader

_RUN_ELEMENTS = 1 << 18
"""Number of elements that are expanded at a time: 2 MiB."""

_HELD_BYTES = MOST_FACTOR_BYTES
"""Size of what is held of a tensor's factors, so that not every run reads them again from the store."""


@dataclass(frozen=True)
class Values:
    """Looks at a delta's numbers, a part at a time, and measures them."""

    base: Schema
    rules: ScreeningRules
    meter: Meter
    factors: frozenset[str] = frozenset()
    """Tensors whose change is measured as that of a product, see `products`."""
    variances: Variances = field(default_factory=dict)
    """The base's running variances: one below 0 would make the model answer NaN, and fusion refuses it for all."""

    def check_part(self, layout: PartLayout, data: bytes) -> None:
        """Look at what a part holds element by element; what has to be expanded is looked at then."""
        for piece in layout.pieces:
            if piece.tensor.name in self.base:
                start = piece.start - layout.start
                raw = np.frombuffer(data, np.uint8, count=piece.num_bytes, offset=start)
                self.check(piece.tensor.name, piece.first, to_floats(raw, piece.tensor.spec.dtype))

    def check(self, name: str, first: int, values: Floats) -> None:
        """Raise `ContributionRejectedError` for numbers that no training makes; measure what it could have made."""
        _check_values(name, values, self.base[name].dtype, self.rules)
        if (variance := self.variances.get(name)) is not None and makes_negative(variance, first, values):
            raise ContributionRejectedError(
                f"delta: tensor {name[:200]!r} would be negative with it, which no variance is; upload it with coldfuse"
            )
        if name in self.factors:
            self.meter.count(values)
        else:
            self.meter.add(name, first, values)


def check_parts(header: Header, file: Blob, reader: VerifiedReader, values: Values | None = None) -> list[bytes]:
    """Look at every byte of a file in parts; return the list of checks of each part, which is read whole.

    Args:
        header: The file's header.
        file: Its parts.
        reader: Reads it; a part has the SHA-256 that it is named by.
        values: Looks at what is stored element by element; None for a mask, of which nothing is.

    Raises:
        ContributionRejectedError: It is cut in another way than along its tensors, or holds a number that no training
            makes.
    """
    layouts = plan_parts(header)
    if [layout.size_bytes for layout in layouts] != [part.size_bytes for part in file.parts]:
        what = "mask" if values is None else "delta"
        raise ContributionRejectedError(f"{what}: not cut into parts along its tensors; upload it with coldfuse")
    lists = []
    for layout in layouts:
        data = reader.read(layout.start, layout.size_bytes)
        lists.append(make_list(data))
        if values is not None:
            values.check_part(layout, data)
    return lists


def check_expanded(file: TensorFile, mask: TensorFile | None, encoded: Mapping[str, Encoded], values: Values) -> None:
    """Look at every number of what is not stored element by element, a run at a time; raises as `check_parts`.

    Args:
        file: The delta.
        mask: Its mask, where it has one.
        encoded: How each of its tensors is stored.
        values: Looks at the numbers.
    """
    with TensorReader([file]) as own, TensorReader([mask] if mask else []) as of_mask:
        for name, how in encoded.items():
            if how is not DENSE:
                _check_tensor(name, how, _Held(name, how, own, of_mask), values)


def _check_tensor(name: str, how: Encoded, stored: _Held, values: Values) -> None:
    spec = values.base[name]
    for first in range(0, spec.num_elements, _RUN_ELEMENTS):
        count = min(_RUN_ELEMENTS, spec.num_elements - first)
        try:
            delta_N = how.delta(spec.shape, stored.read, first, count, add=add_product)
        except CodecError as error:
            raise ContributionRejectedError(
                f"delta: tensor {name[:200]!r}: {error}; upload it with coldfuse"
            ) from error
        values.check(name, first, delta_N)


class _Held:
    """What is stored of one tensor; what every run of it needs is read once."""

    def __init__(self, name: str, how: Encoded, own: TensorReader, of_mask: TensorReader) -> None:
        self._name = name
        self._readers = {**dict.fromkeys(how.parts, own), **dict.fromkeys(how.mask_parts, of_mask)}
        self._held: dict[tuple[str, int, int], NDArray[Any]] = {}
        self._num_bytes = 0

    def read(self, part: str, first: int, count: int) -> NDArray[Any]:
        """Return elements of a part."""
        key = part, first, count
        if key not in self._held:
            found = self._readers[part].numbers(part_name(self._name, part), first, count)
            if self._num_bytes + found.nbytes > _HELD_BYTES:
                self._held.clear()
                self._num_bytes = 0
            self._num_bytes += found.nbytes
            self._held[key] = found
        return self._held[key]


def _check_values(tensor: str, values: Floats, dtype: str, rules: ScreeningRules) -> None:
    name = repr(tensor[:200])
    if not surely_finite(values):  # finite float32 cannot overflow a float64 sum
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise ContributionRejectedError(
            f"delta: tensor {name} has {bad} values that are NaN or infinite; "
            "did the training diverge? lower the learning rate"
        )
    largest = max(float(values.max()), -float(values.min()))
    if largest >= SAFE_CHANGE[dtype]:  # else the fused model could overflow, and stop the round for everybody
        raise ContributionRejectedError(
            f"delta: tensor {name} has a change of {largest:g}, the base is {dtype} and takes less than "
            f"{SAFE_CHANGE[dtype]:g}; did the training diverge? lower the learning rate"
        )
    if rules.is_on and largest >= rules.max_change:
        raise ContributionRejectedError(
            f"delta: tensor {name} has a change of {largest:g}, less than {rules.max_change:g} is taken; did the "
            "training diverge? lower the learning rate"
        )
