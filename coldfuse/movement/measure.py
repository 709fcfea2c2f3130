"""One pass over two models, the model before them, and what was contributed, in runs of bounded size.

    Δ = θ_b − θ_a      Δ′ = θ_a − θ_earlier

Letters: N elements of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coldfuse.core.dtypes import Raw, to_floats
from coldfuse.core.schema import size_of
from coldfuse.core.words import printable
from coldfuse.errors import ColdfuseError, SchemaMismatchError
from coldfuse.movement.deltas import Delta, Factors, why_unreadable
from coldfuse.movement.found import Moved
from coldfuse.movement.pairs import Pair, Places, is_measured
from coldfuse.movement.parts import segments
from coldfuse.tensors.checkpoint import Place
from coldfuse.tensors.files import File, OpenFile, close

RUN = 1 << 20
"""Number of elements that are looked at together: 8 MiB a model, as float64."""

OnTensor = Callable[[int, int], None]
"""on_tensor(done, total): called as elements are done."""


@dataclass
class Measured:
    """What a pass has found."""

    tensors: dict[str, Moved] = field(default_factory=dict)
    """How far each tensor of floats moved, in the order of the first model's files."""
    differing: list[str] = field(default_factory=list)
    """Names of tensors of other kinds, such as positions, that are not the same in both."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why a contribution could not be read, by its digest."""
    skipped_bytes: int = 0
    """Number of bytes of both models that were not read, as both have the same parts there."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is measured."""

    pair: Pair
    earlier: Places | None = None
    """The model before both; None where there is none."""
    deltas: Sequence[Delta] = ()
    factors: Mapping[int, Factors] = field(default_factory=dict)
    """How much of each delta became the change, by the number of the release."""


def measure(subject: Subject, *, progress: OnTensor | None = None) -> Measured:
    """Measure how far a model moved.

    Args:
        subject: The models, and what was contributed.
        progress: Called with the elements that are done, and those of all tensors.

    Raises:
        SchemaMismatchError: A tensor holds NaN or infinity: no distance is a number then.
    """
    found = Measured()
    pair = subject.pair
    names = [name for name in pair.before if name in pair.after]
    total, done = sum(pair.before[name][1].spec.num_elements for name in names), 0
    with ExitStack() as stack:
        one = _Pass(subject, found, _Readers(stack))
        for name in names:
            one.tensor(name)
            done += pair.before[name][1].spec.num_elements
            if progress is not None:
                progress(done, total)
    gone = found.unreadable.keys()
    found.tensors = {name: moved.without(gone) for name, moved in found.tensors.items()} if gone else found.tensors
    return found


class _Readers:
    """Files that stay open for a pass."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._open = stack, dict[File, OpenFile]()

    def raw(self, place: Place, first: int, count: int) -> Raw:
        """Return elements of a tensor as they are stored."""
        file, entry = place
        if file.file not in self._open:
            self._open[file.file] = reader = file.file.open()
            self._stack.callback(close, reader)
        raw = np.empty(size_of(entry.spec.dtype, count), np.uint8)
        self._open[file.file].read_into(raw.data, entry.start + size_of(entry.spec.dtype, first))
        return raw


class _Sums:
    """Adds up one tensor, run by run."""

    def __init__(self) -> None:
        self.num_changed = 0
        self.squares: list[float] = []
        self.weights: list[float] = []
        self.product: list[float] = []
        self.earlier: list[float] = []
        self.along: dict[str, list[float]] = {}


class _Pass:
    def __init__(self, subject: Subject, found: Measured, readers: _Readers) -> None:
        self._subject, self._found, self._readers = subject, found, readers

    def tensor(self, name: str) -> None:
        """Measure a tensor, or say that it is another one."""
        before, after = self._subject.pair.before[name], self._subject.pair.after[name]
        spec = before[1].spec
        is_same = _is_same(before, after, 0, spec.num_elements)
        if is_same:
            self._found.skipped_bytes += 2 * spec.size_bytes
        if not is_measured(before):
            if not is_same and not self._is_alike(before, after):
                self._found.differing.append(name)
            return
        earlier = (self._subject.earlier or {}).get(name)
        if is_same:  # what the change before was does not matter for this tensor's own, but counts for the layer's
            self._found.tensors[name] = self._unmoved(name, before, earlier)
            return
        sums = _Sums()
        for first in range(0, spec.num_elements, RUN):
            self._run(name, (first, min(RUN, spec.num_elements - first)), earlier, sums)
        self._found.tensors[name] = _moved(sums, spec.num_elements, has_earlier=earlier is not None)

    def _unmoved(self, name: str, before: Place, earlier: Place | None) -> Moved:
        """Return what is said of a tensor that did not move."""
        num_elements = before[1].spec.num_elements
        if earlier is None:
            return Moved(num_elements=num_elements)
        squares: list[float] = []
        if not _is_same(earlier, before, 0, num_elements):
            for first in range(0, num_elements, RUN):
                count = min(RUN, num_elements - first)
                values = self._floats(name, before, first, count) - self._floats(name, earlier, first, count)
                squares.append(_dot(values, values))
        return Moved(num_elements=num_elements, product=0.0, earlier=math.fsum(squares))

    def _run(self, name: str, where: tuple[int, int], earlier: Place | None, sums: _Sums) -> None:
        first, count = where
        before, after = self._subject.pair.before[name], self._subject.pair.after[name]
        before_N = self._floats(name, before, first, count)
        sums.weights.append(_dot(before_N, before_N))
        if _is_same(before, after, first, count):
            self._found.skipped_bytes += size_of(after[1].spec.dtype, count)
            change_N = np.zeros(count)
        else:
            change_N = self._floats(name, after, first, count) - before_N
        sums.num_changed += int(np.count_nonzero(change_N))
        sums.squares.append(_dot(change_N, change_N))
        if earlier is not None:
            earlier_N = before_N - self._floats(name, earlier, first, count)
            sums.product.append(_dot(change_N, earlier_N))
            sums.earlier.append(_dot(earlier_N, earlier_N))
        if sums.squares[-1]:
            self._project(name, where, change_N, sums)

    def _project(self, name: str, where: tuple[int, int], change_N: NDArray[np.float64], sums: _Sums) -> None:
        """Add ⟨c_i δ_i, Δ⟩ of each contribution that holds the tensor, and can be read."""
        shape = self._subject.pair.before[name][1].spec.shape
        for number in {delta.release: None for delta in self._subject.deltas}:
            own = {delta.digest: delta for delta in self._subject.deltas if delta.release == number}
            factors = self._subject.factors[number]
            present = [(delta := own.get(one.contribution)) is not None and delta.has(name)
                       for one in factors.contributions]  # fmt: skip
            factor_of = factors.of(name, shape, present)
            for digest, delta in own.items():
                if delta.has(name) and factor_of[digest] and digest not in self._found.unreadable:
                    self._add(delta, name, shape, where, (factor_of[digest], change_N), sums)

    def _add(
        self, delta: Delta, name: str, shape: tuple[int, ...], where: tuple[int, int],
        along: tuple[float, NDArray[np.float64]], sums: _Sums,
    ) -> None:  # fmt: skip
        factor, change_N = along
        try:
            value = factor * _dot(delta.read(name, shape, *where), change_N)
        except ColdfuseError as error:  # a part of it is gone or damaged: nothing is said of it then
            self._found.unreadable[delta.digest] = why_unreadable(error)
            return
        sums.along.setdefault(delta.digest, []).append(value)

    def _floats(self, name: str, place: Place, first: int, count: int) -> NDArray[np.float64]:
        values = to_floats(self._readers.raw(place, first, count), place[1].spec.dtype).astype(np.float64)
        if not np.isfinite(values).all():
            raise SchemaMismatchError(
                f"{place[0]}: tensor {printable(name[:200])!r} holds NaN or infinity, from which no distance is a "
                "number; did its training diverge?"
            )
        return values

    def _is_alike(self, before: Place, after: Place) -> bool:
        """Compare what is no float, byte by byte."""
        ours, theirs = before[1].spec, after[1].spec
        if ours != theirs:
            return False
        return all(
            bytes(self._readers.raw(before, first, count)) == bytes(self._readers.raw(after, first, count))
            for first in range(0, ours.num_elements, RUN)
            for count in [min(RUN, ours.num_elements - first)]
        )


def _moved(sums: _Sums, num_elements: int, *, has_earlier: bool) -> Moved:
    squares = math.fsum(sums.squares)
    return Moved(
        num_elements=num_elements, num_changed=sums.num_changed, squares=squares,
        weights=math.fsum(sums.weights) if squares else 0.0,
        product=math.fsum(sums.product) if has_earlier else None,
        earlier=math.fsum(sums.earlier) if has_earlier else None,
        along={name: math.fsum(values) for name, values in sums.along.items()},
    )  # fmt: skip


def _is_same(one: Place, other: Place, first: int, count: int) -> bool:
    """Tell by the names of parts alone that some elements are the same; False where they have no names."""
    dtype = one[1].spec.dtype
    if dtype != other[1].spec.dtype:
        return False
    start, num_bytes = size_of(dtype, first), size_of(dtype, count)
    parts = segments(one, start, num_bytes)
    return parts is not None and parts == segments(other, start, num_bytes)


def _dot(one_N: NDArray[np.float64], other_N: NDArray[np.float64]) -> float:
    """Return an inner product; BLAS's own would wake threads, and depend on their number."""
    return float(np.einsum("n,n->", one_N, other_N))
