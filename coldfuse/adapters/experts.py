# ruff: noqa: N806 - tensor names end in their shape
"""LoRA of parameters that are no layer's weight (PEFT's `target_parameters`), mostly all experts of a layer in one.

    δ_e = s·B_e A_e,  A_e = A[eK : eK + K],  B_e = B[:, e::E]

for each expert e of E, with A of EK × I and B of O × EK. The tensor is E × O × I, or E × I × O where a model says that
its experts lie transposed (gpt-oss). It is seen as a matrix of EO (or EI) rows, since one expert may be large.

A base may store each expert's parts in tensors of their own, though its model holds them in one: `expert_part` gives
the change of such a tensor.

Several parameters of one module are wrapped one around the other, the last one outermost; only the nesting is in the
names of the file, so shapes tell which is which. Letters: O outputs, I inputs, K rank, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from coldfuse.adapters.changes import Added, Change, Float64, Read, Stored
from coldfuse.adapters.config import AdapterConfig
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError
from coldfuse.tensors.products import multiply

IN_FIRST_MODEL_TYPES = frozenset({"aria", "aria_text", "gpt_oss", "openai_privacy_filter"})
"""Values of `model_type` whose experts are stored as inputs × outputs, which PEFT is told."""


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The product BA of every expert, as the rows of one matrix."""

    a: Stored
    b: Stored
    num_experts: int
    out_first: bool
    """True if an expert's rows are its outputs."""

    @property
    def _sizes(self) -> tuple[int, int, int]:
        rank_all, inputs = self.a.tensor.spec.shape
        return self.b.tensor.spec.shape[0], inputs, rank_all // self.num_experts

    @property
    def rows_of_one(self) -> int:
        """Number of rows of one expert."""
        outputs, inputs, _ = self._sizes
        return outputs if self.out_first else inputs

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        outputs, inputs, _ = self._sizes
        return self.num_experts * self.rows_of_one, inputs if self.out_first else outputs

    def rows(self, read: Read, first: int, num: int) -> Float64:
        """Return rows `first` to `first + num`, of one or several experts."""
        size, end = self.rows_of_one, first + num
        parts = []
        for expert in range(first // size, -(-end // size)):
            start, stop = max(first - expert * size, 0), min(end - expert * size, size)
            parts.append(self._of_expert(read, expert, start, stop - start))
        return np.concatenate(parts)

    def _of_expert(self, read: Read, expert: int, first: int, num: int) -> Float64:
        outputs, inputs, rank = self._sizes
        a_KI = read(self.a, expert * rank * inputs, rank * inputs).reshape(rank, inputs)
        width = rank * self.num_experts
        if self.out_first:
            b_OK = read(self.b, first * width, num * width).reshape(num, width)[:, expert :: self.num_experts]
            return multiply(np.ascontiguousarray(b_OK), a_KI)
        b_OK = read(self.b, 0, outputs * width).reshape(outputs, width)[:, expert :: self.num_experts]
        return multiply(np.ascontiguousarray(a_KI[:, first : first + num].T), np.ascontiguousarray(b_OK.T))


@dataclass(frozen=True)
class _Part:
    """Some rows of one expert, as a matrix of their own."""

    experts: Experts
    first: int
    num: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.num, self.experts.shape[1]

    def rows(self, read: Read, first: int, num: int) -> Float64:
        return self.experts.rows(read, self.first + first, num)


def expert_part(change: Added, expert: int, *, first_output: int, num_outputs: int) -> Added:
    """Return the change of a tensor of outputs × inputs that holds some outputs of one expert.

    Args:
        change: The change of the tensor of all experts, as `parameter_changes` returns it.
        expert: Index of the expert.
        first_output: The expert's output that is the tensor's first row: where `up` begins in `gate_up`, for example.
        num_outputs: Number of the tensor's rows.
    """
    if not isinstance(change.matrix, Experts):
        raise TypeError("not the change of a tensor of experts")
    experts = replace(change.matrix, out_first=True)
    return Added(_Part(experts, expert * experts.rows_of_one + first_output, num_outputs), change.scale)


def is_of_experts(change: Change) -> bool:
    """Tell whether a change has the rows of every expert, and not those of a tensor seen as other changes see it."""
    return isinstance(change, Added) and isinstance(change.matrix, Experts)


def target_parameters(module: str, config: AdapterConfig) -> list[str]:
    """Return the names of a module's own parameters that the configuration targets, without repeats."""
    found = []
    for target in config.target_parameters:
        owner, _, parameter = target.rpartition(".")
        if not owner or module == owner or module.endswith(f".{owner}"):
            found.append(parameter)
    return sorted(set(found))


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters of one module, and the factors around it."""

    name: str
    """The adapter's name of the module."""
    module: str
    """The base's name of the module."""
    levels: Sequence[tuple[Stored, Stored]]
    """A and B, the outermost first."""
    parameters: Sequence[str]
    """The parameters that are targeted and that the base has."""
    config: AdapterConfig
    base: Schema
    model_type: str
    """The base's `model_type`."""
    what: str

    def fits(self, parameter: str, level: int) -> bool:
        """Tell whether the factors of a level have a parameter's sizes, either way round."""
        return bool(self._orders(parameter, level))

    def change(self, parameter: str, level: int) -> Added:
        """Return the change of a parameter. Raises `SchemaMismatchError` if it may lie either way round."""
        orders, (a, b) = self._orders(parameter, level), self.levels[level]
        out_first = orders[0]
        if len(orders) > 1:
            if not self.model_type:
                raise SchemaMismatchError(
                    f"{self.what}: {self.module}.{parameter} has as many inputs as outputs, and the base's config.json "
                    "names no model_type that would say which come first; add it"
                )
            out_first = self.model_type not in IN_FIRST_MODEL_TYPES
        experts = Experts(a=a, b=b, num_experts=self._num_experts(parameter), out_first=out_first)
        return Added(experts, self.config.scale(f"{self.name}.{parameter}"))

    def _num_experts(self, parameter: str) -> int:
        shape = self.base[f"{self.module}.{parameter}"].shape
        return shape[0] if len(shape) == 3 else 1

    def _orders(self, parameter: str, level: int) -> list[bool]:
        """Return for which orders, outputs first or not, the sizes fit."""
        shape, (a, b) = self.base[f"{self.module}.{parameter}"].shape, self.levels[level]
        a_shape, b_shape = a.tensor.spec.shape, b.tensor.spec.shape
        num = self._num_experts(parameter)
        rank_all = self.config.rank(f"{self.name}.{parameter}") * num
        if len(a_shape) != 2 or len(b_shape) != 2 or not a_shape[0] == b_shape[1] == rank_all:
            return []
        sizes = (b_shape[0], a_shape[1])
        return [out_first for out_first in ((True, False) if len(shape) == 3 else (True,))
                if shape[-2:] == (sizes if out_first else sizes[::-1])]  # fmt: skip


def parameter_changes(group: Parameters) -> Mapping[str, Added]:
    """Return the change of each parameter of a module, by the base's name of the tensor.

    Raises:
        SchemaMismatchError: The factors fit no parameter, or several.
    """
    count = len(group.levels)
    fitting = [
        chosen
        for chosen in permutations(group.parameters, count)
        if all(group.fits(parameter, level) for level, parameter in enumerate(chosen))
    ]
    # Models register what leads in before what leads out, and the last is outermost.
    named = [chosen for chosen in fitting if list(chosen) == sorted(chosen, key=lambda name: "down" not in name)]
    chosen = fitting if len(fitting) == 1 else named
    if len(chosen) != 1:
        shapes = {name: list(group.base[f"{group.module}.{name}"].shape) for name in group.parameters}
        factors = [[list(stored.tensor.spec.shape) for stored in level] for level in group.levels]
        how = "in several ways" if fitting else "nowhere"
        raise SchemaMismatchError(
            f"{group.what}: module {group.module!r}: its factors {factors} of rank {group.config.r} fit the base's "
            f"{shapes} {how}; it was trained on a base with other layers, or has another configuration"
        )
    return {f"{group.module}.{name}": group.change(name, level) for level, name in enumerate(chosen[0])}
