"""Measures a delta while its parts stream by: its length, that of its layers, and a sketch by which copies are known.

The sketch is a random projection: every element is multiplied by a random sign and added to one of a few sums. Signs
are made for runs of elements of fixed places, so that they depend neither on the delta's dtype nor on how it is cut.

Letters: N elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from coldfuse.core.contribution import MAX_GROUPS, Measured
from coldfuse.core.copies import SKETCH_SIZE
from coldfuse.core.dtypes import Floats
from coldfuse.core.schema import Schema
from coldfuse.core.serialization import sha256
from coldfuse.fusion.block import Float64
from coldfuse.fusion.settings import is_embedding, layers_of

_RUN = 1 << 16
"""Number of elements whose signs are made together: they and the elements stay in a core's cache."""

_MOST_LAYERS = MAX_GROUPS - 2
"""Number of groups that layers share: two are for what comes before them and for all else."""


class LayerGroups:
    """Which of a base's tensors are measured together."""

    def __init__(self, base: Schema) -> None:
        """Take the base's tensors."""
        layers = layers_of(name for name, spec in base.items() if spec.is_fused)
        count = max((layer.count for layer in layers.values() if layer), default=0)
        self._per_group = -(-count // _MOST_LAYERS) or 1
        self._count, self._num_layers = count, -(-count // self._per_group)
        self._group = {
            name: 1 + layer.index // self._per_group if layer else 0 if is_embedding(name) else 1 + self._num_layers
            for name, layer in layers.items()
        }

    def __getitem__(self, tensor: str) -> int:
        """Return the number of a tensor's group."""
        return self._group[tensor]

    def __len__(self) -> int:
        """Return how many groups there are."""
        return self._num_layers + 2

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The groups' names for people."""
        firsts = range(0, self._count, self._per_group)
        ends = (min(first + self._per_group, self._count) for first in firsts)
        middle = (
            f"layer {first}" if end == first + 1 else f"layers {first} to {end - 1}"
            for first, end in zip(firsts, ends, strict=True)
        )
        return ("the embeddings", *middle, "what is in no layer")


class Meter:
    """Sums up one delta, piece by piece in any order."""

    def __init__(self, groups: LayerGroups, *, seed: str) -> None:
        """Take what is measured together, and what the signs depend on."""
        self._groups, self._seed = groups, seed
        self._squares = [0.0] * len(groups)
        self._sums = np.zeros(SKETCH_SIZE)
        self._num_changed, self._largest = 0, 0.0

    def add(self, tensor: str, first: int, values: Floats) -> None:
        """Count a run of a tensor's elements, of which `first` is the index of the first."""
        squares = 0.0
        self._largest = max(self._largest, float(np.abs(values).max(initial=0.0)))
        for start, signs_N in self._signs(tensor, first, len(values)):
            part_N = values[start : start + len(signs_N)].astype(np.float64)
            squares += float(np.einsum("n,n->", part_N, part_N))  # a dot product would wake BLAS's threads
            self._num_changed += int(np.count_nonzero(part_N))
            part_N *= signs_N
            self._project(part_N, (first + start) % SKETCH_SIZE)
        self._squares[self._groups[tensor]] += squares

    def count(self, values: Floats) -> None:
        """Count elements that are not 0, of a factor: its module is measured as the change of a product."""
        self._num_changed += int(np.count_nonzero(values))

    def add_product(self, tensor: str, up_OK: Float64, down_KI: Float64) -> float:
        """Count a whole change of low rank, δ = UV, without making it.

        Its length is that of a small matrix, R_U R_V^T of both factors' QR. The sketch is of random projections of rank
        1, uᵀδv, whose signs depend on the module alone: so neither tells (cB, A/c) from (B, A).

        Args:
            tensor: Name of a tensor of its group, which the signs depend on.
            up_OK: U.
            down_KI: V.

        Returns:
            A number that no element of it exceeds in size: the longest row of U times the longest column of V.
        """
        _, up_KK = np.linalg.qr(up_OK)
        _, down_KK = np.linalg.qr(down_KI.T)
        self._squares[self._groups[tensor]] += float(np.square(up_KK @ down_KK.T).sum())
        left_SO = self._sign_rows(f"{tensor}/up", len(up_OK))
        right_SI = self._sign_rows(f"{tensor}/down", down_KI.shape[1])
        self._sums += ((left_SO @ up_OK) * (right_SI @ down_KI.T)).sum(axis=1)
        longest = float(np.sqrt(np.square(up_OK).sum(axis=1).max() * np.square(down_KI).sum(axis=0).max()))
        self._largest = max(self._largest, longest)
        return longest

    def _sign_rows(self, name: str, count: int) -> Float64:
        """Return a row of random signs for each place of the sketch."""
        signs_N = np.concatenate([signs_N for _, signs_N in self._signs(name, 0, SKETCH_SIZE * count)])
        return signs_N.reshape(SKETCH_SIZE, count)

    def measured(self, kind: str) -> Measured:
        """Return what was found, rounded so that it stays small."""
        return Measured(
            kind=kind,
            norm=_rounded(math.sqrt(math.fsum(self._squares)), 9),
            layers=tuple(_rounded(math.sqrt(squares), 4) for squares in self._squares),
            num_changed=self._num_changed,
            largest=_rounded(self._largest, 4),
            sketch=self._sketch(),
        )

    def _signs(self, tensor: str, first: int, count: int) -> Iterator[tuple[int, Float64]]:
        """Yield random signs for a run's elements, and where in the run they begin."""
        done = 0
        while done < count:
            run, skipped = divmod(first + done, _RUN)
            key = int(sha256(f"{self._seed}/{run}/{tensor}".encode())[:32], 16)
            bits = np.random.Philox(key=key).random_raw(_RUN // 64).view(np.uint8)
            signs_N = np.unpackbits(bits)[skipped : skipped + count - done].astype(np.float64)
            signs_N *= 2.0
            signs_N -= 1.0
            yield done, signs_N
            done += len(signs_N)

    def _project(self, part_N: Float64, place: int) -> None:
        """Add each element to the sum of its place."""
        padded_N = np.zeros(-(-(place + len(part_N)) // SKETCH_SIZE) * SKETCH_SIZE)
        padded_N[place : place + len(part_N)] = part_N
        self._sums += padded_N.reshape(-1, SKETCH_SIZE).sum(axis=0)

    def _sketch(self) -> str:
        largest = float(np.abs(self._sums).max())
        if not largest:
            return ""
        return np.rint(self._sums / largest * 127).astype(np.int8).tobytes().hex()


def _rounded(number: float, digits: int) -> float:
    return float(f"{number:.{digits - 1}e}")
