"""Modules of a shared LoRA: their factors are fused as changes of weights, see `adapters.refactored`.

A fusion of such a base has two views. The files that are made hold factors, and are cut into parts as ever. What is
measured and combined are the products, which lie nowhere: a plan of its own names them, whose base is computed from
factors as it is read, and whose contributions are expanded rows by rows as an adapter's are. So every method measures
and combines products as it would any other tensors. The task that makes a part cuts what it needs of them (`cutting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldfuse.adapters.adapter import AdapterTensor
from coldfuse.adapters.changes import Factor, Float64, Matrix, Product, Read, Stored, read_stored
from coldfuse.adapters.config import CONFIG, AdapterConfig, parse_adapter_config
from coldfuse.adapters.names import PEFT_PREFIX, sort_tensors
from coldfuse.adapters.refactored import Moved, ProductValues, Refactored
from coldfuse.core.schema import ITEM_BYTES, TensorSpec
from coldfuse.engine.operands import Changing, EncodedOperand, Operands, operands
from coldfuse.engine.outputs import Output
from coldfuse.engine.plan import (
    FactorTask,
    Granularity,
    Inputs,
    PartTask,
    PieceTask,
    Plan,
    Shard,
    all_shards,
    measured_shards,
    plan_shards,
    plan_whole,
)
from coldfuse.errors import UserInputError
from coldfuse.fusion.recipe import Recipe
from coldfuse.tensors.checkpoint import Checkpoint
from coldfuse.tensors.composed import compose
from coldfuse.tensors.files import opened
from coldfuse.tensors.header import TensorEntry
from coldfuse.tensors.products import as_matrix

KIND = "LORA"
"""The kind of module whose factors are fused as products."""

_FILE = "products"
"""Name of the file that the products would lie in."""


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """One module's product among a base's tensors."""

    name: str
    """The module's path in the body."""
    up: Stored
    """The base's B."""
    down: Stored
    """The base's A."""
    scale: float
    """The factor s that PEFT multiplies BA by."""

    @property
    def pair(self) -> Product:
        """The base's factors."""
        return Product(Factor(self.up), Factor(self.down))

    @property
    def names(self) -> tuple[str, str]:
        """Names of B and A among the base's tensors."""
        return self.up.tensor.name, self.down.tensor.name

    @property
    def spec(self) -> TensorSpec:
        """The product as a tensor."""
        return TensorSpec(dtype="F64", shape=self.pair.shape)

    def moved_by(self, source: Operands) -> AdapterTensor | None:
        """Return what a contribution makes of the product; None if it has neither factor."""
        if (own := self.moved_pair(source)) is None:
            return None
        return AdapterTensor(
            name=self.name, shape=self.pair.shape, changes=(Refactored(own, self.pair, self.scale),)
        )  # fmt: skip

    def moved_pair(self, source: Operands) -> Product | None:
        """Return the factors that a contribution has made of the base's; None if it has neither."""
        if not any(name in source for name in self.names):
            return None
        return Product(self._own(self.up, source), self._own(self.down, source))

    def change(self, source: Operands) -> tuple[Float64, Float64] | None:
        """Return the change of the product as two factors, [s δB, s B_t] and [A_i; δA]; None if there is none."""
        own = self.moved_pair(source)
        if own is None:
            return None
        up, down = self.pair.factors(read_stored)
        own_up, own_down = own.factors(read_stored)
        return self.scale * np.hstack([own_up - up, up]), np.vstack([own_down, own_down - down])

    def _own(self, factor: Stored, source: Operands) -> Matrix:
        base, name = Factor(factor), factor.tensor.name
        if (encoded := source.encoded.get(name)) is not None:
            return Moved(base, EncodedFactor(encoded))
        if (place := source.tensors.get(name)) is None:
            return base
        own = Factor(Stored(place[0].file, place[1]))
        return Moved(base, own) if source.is_delta else own


@dataclass(frozen=True)
class EncodedFactor:
    """A factor's delta that is not stored element by element."""

    operand: EncodedOperand

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return as_matrix(self.operand.shape)

    def rows(self, read: Read, first: int, num: int) -> Float64:
        """Return rows `first` to `first + num`."""

        def read_part(name: str, start: int, count: int) -> NDArray[Any]:
            part = self.operand.parts[name]
            if part.dtype == "U8":  # codes, which are no floats
                raw = np.empty(count, np.uint8)
                with opened(part.where.file) as file:
                    file.read_into(raw.data, part.where.start + start)
                return raw
            spec = TensorSpec(dtype=part.dtype, shape=(part.where.length // ITEM_BYTES[part.dtype],))
            entry = TensorEntry(name=name, spec=spec, start=part.where.start)
            return read(Stored(part.where.file, entry), start, count)

        columns = self.shape[1]
        delta_N = self.operand.how.delta(self.operand.shape, read_part, first * columns, num * columns)
        return delta_N.reshape(num, columns)


def find_low_rank(base: Checkpoint) -> tuple[LowRank, ...]:
    """Return the products among a base's tensors; none unless it is a module of LoRA."""
    if base.module is None or base.module.kind != KIND:
        return ()
    config = parse_adapter_config(base.read(CONFIG) or b"", what=f"{base.folder}/{CONFIG}")
    stored = [Stored(file.file, entry) for file in base.files.values() for entry in file.header.tensors]
    contents = sort_tensors(stored, KIND, what=str(base.folder))
    found = [_product(name, parts, config) for name, parts in contents.modules.items()]
    return tuple(sorted((item for item in found if item), key=lambda item: item.name))


def _product(name: str, parts: Mapping[str, Stored], config: AdapterConfig) -> LowRank | None:
    infix = "embedding_" if "lora_embedding_A" in parts else ""
    up, down = parts.get(f"lora_{infix}B"), parts.get(f"lora_{infix}A")
    if up is None or down is None:
        return None
    return LowRank(name=name.removeprefix(PEFT_PREFIX), up=up, down=down, scale=config.scale(name))


def require_shareable(base: Checkpoint, recipe: Recipe, late: str) -> None:
    """Raise `UserInputError` if no round could fuse modules of a base by a recipe, with what comes late.

    Args:
        base: A release, or the folder of one to be.
        recipe: What rounds do.
        late: What becomes of late contributions, see `RoundRules.late`.
    """
    modules = find_low_rank(base)
    require_products(recipe, modules, Output())
    if base.module and any(step.statistic for step in recipe.steps):
        raise UserInputError("this method weighs by statistics of a whole model, and a module is shared; take another")
    if modules and late != "drop":
        raise UserInputError(
            f"--late {late}: the factors of a shared LoRA are turned in every release, so that a change of older ones "
            "is none of the newer; take --late drop"
        )


def require_products(recipe: Recipe, modules: Sequence[LowRank], output: Output) -> None:
    """Raise `UserInputError` for what cannot be made of modules of low rank."""
    if modules and (output.kind != "model" or output.shard_bytes):
        raise UserInputError(
            "of a module on a frozen body a module is made, in one file; leave --as and --shard-size out"
        )
    if modules and any(step.statistic for step in recipe.steps):
        raise UserInputError(
            "this method weighs by statistics of tensors, and of a shared LoRA products of tensors are fused; take "
            "another method"
        )
    if modules and recipe.slots:
        raise UserInputError(
            f"this method keeps {', '.join(recipe.slots)} for each element of what is fused, and of a shared LoRA that "
            "are the products of its factors, as large as the frozen body; take a method without outer steps"
        )


@dataclass(frozen=True, kw_only=True)
class _Products:
    """What one contribution makes of the products."""

    what: str
    tensors: Mapping[str, AdapterTensor]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors


class LowRankPlan:
    """The products of a fusion: how they are measured, and what makes each factor."""

    def __init__(self, modules: Sequence[LowRank], read: Inputs) -> None:
        """Take the modules, and where everything lies that is read."""
        self.modules = modules
        made = [(module.name, module.spec, ProductValues(module.pair, module.scale).whole) for module in modules]
        self._file = compose(_FILE, made, {})
        contributions = [
            _Products(
                what=f"contribution {number} in the order of digests",
                tensors={m.name: own for m in modules if (own := m.moved_by(_operands(source)))},
            )
            for number, source in enumerate(read.contributions, start=1)
        ]
        self._inputs = Inputs(base=operands([self._file], is_delta=False), contributions=contributions)

    def in_place_of_factors(self, fused: Mapping[str, TensorSpec]) -> dict[str, TensorSpec]:
        """Return what is fused: the tensors that are written, with products in the place of their factors."""
        others = {name: spec for name, spec in fused.items() if name not in self.factors}
        return others | {module.name: module.spec for module in self.modules}

    @cached_property
    def factors(self) -> frozenset[str]:
        """Names of all factors among the base's tensors."""
        return frozenset(name for module in self.modules for name in module.names)

    def measured(self, plan: Plan, granularity: Granularity) -> list[Shard]:
        """Return the shards of what is measured: those of a plan without its factors, and the products'."""
        if not self.modules:
            return measured_shards(plan)
        products = plan_shards({_FILE: self._file.header}, self._inputs, granularity=granularity)
        return [*self._without_factors(measured_shards(plan)), *all_shards(products)]

    def made(self, plan: Plan) -> Plan:
        """Return a plan in which factors are made from products; parts that share a module are one task's."""
        if not self.modules:
            return plan
        return {file: list(self._together(shards)) for file, shards in plan.items()}

    def _without_factors(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return the shards without the pieces of factors."""
        factors = self.factors

        def others(part: PartTask) -> PartTask:
            return replace(part, pieces=tuple(piece for piece in part.pieces if piece.tensor not in factors))

        kept = [replace(shard, parts=tuple(others(part) for part in shard.parts)) for shard in shards]
        return [shard for shard in kept if any(True for _ in shard.pieces)]

    @cached_property
    def _tasks(self) -> dict[str, FactorTask]:
        found: dict[str, FactorTask] = {}
        for module in self.modules:
            product = plan_whole(self._inputs.base.tensors[module.name][1], self._inputs)
            for is_up, name in zip((True, False), module.names, strict=True):
                found[name] = FactorTask(is_up=is_up, product=product, base=module.pair, scale=module.scale)
        return found

    def _together(self, shards: Sequence[Shard]) -> Iterator[Shard]:
        held: list[PartTask] = []
        for shard in shards:
            parts = [replace(part, pieces=tuple(map(self._with_task, part.pieces))) for part in shard.parts]
            if held and not _module_at(held[-1], -1) == _module_at(parts[0], 0) != "":
                yield Shard(file=shard.file, parts=tuple(held))
                held = []
            held += parts
        if held:
            yield Shard(file=shards[0].file, parts=tuple(held))

    def _with_task(self, piece: PieceTask) -> PieceTask:
        return replace(piece, factor=self._tasks.get(piece.tensor))


def _module_at(part: PartTask, index: int) -> str:
    """Return the module that a part ends or begins with; "" if with something else."""
    piece = part.pieces[index] if part.pieces else None
    return piece.factor.product.tensor if piece and piece.factor else ""


def _operands(source: Operands | Changing) -> Operands:
    if not isinstance(source, Operands):
        raise UserInputError(f"{source.what}: is to be fused as what it has of the module, not as changes of the body")
    return source
