"""From a module's factors to what they do to its weight and bias, for each type of adapter.

Shapes decide whether a layer stores its weight as outputs × inputs or the other way round (Conv1D of GPT-2); only for
square matrices the configuration must be believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from coldfuse.adapters.changes import (
    Added,
    Change,
    Factor,
    Hadamard,
    Kronecker,
    Matrix,
    Product,
    Renormed,
    Replaced,
    Rescaled,
    SomeReplaced,
    Stored,
)
from coldfuse.adapters.config import MERGE, AdapterConfig
from coldfuse.adapters.names import TOKENS
from coldfuse.adapters.types import EXPANDED
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.tensors.products import as_matrix
from coldfuse.tensors.shapes import differing_shapes

_TOKEN_ROWS = f"token_adapter.{TOKENS}"
"""Rows that were trained beside LoRA."""


@dataclass(frozen=True, kw_only=True)
class Module:
    """One layer that an adapter changes."""

    name: str
    """The adapter's name of the layer."""
    weight: str
    """The base's name of the layer's weight."""
    parts: Mapping[str, Stored]
    """The factors by PEFT's names, such as `lora_A`."""
    config: AdapterConfig
    base: Schema
    what: str
    """The adapter's name, for errors."""
    times: int = 1
    """How often the change counts."""

    @property
    def bias(self) -> str:
        """The base's name of the layer's bias, if there is one."""
        return self.weight.removesuffix("weight") + "bias"

    @property
    def has_bias(self) -> bool:
        """True if the base's layer has a bias."""
        return self.bias in self.base

    @property
    def is_embedding(self) -> bool:
        """True if LoRA's factors are those of a layer that looks up rows of its weight."""
        return any("_embedding_" in part for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the base's weight."""
        return self.base[self.weight].shape

    @property
    def scale(self) -> float:
        """The factor s of the delta."""
        return self.times * self.config.scale(self.name)

    def part(self, name: str) -> Stored:
        """Return one of the factors. Raises `UserInputError` if the file does not have it."""
        if name not in self.parts:
            has = ", ".join(sorted(self.parts))
            raise UserInputError(f"{self.what}: module {self.name!r} has {has} but no {name}; save the adapter again")
        return self.parts[name]

    def mismatch(self, changed: tuple[int, ...], name: str) -> SchemaMismatchError:
        """Return the error for factors that change another shape (`changed`) than a tensor of the base has."""
        shapes = f"the adapter changes shape {list(changed)}, the base has no such tensor"
        if name in self.base:
            shapes = f"the adapter changes {differing_shapes(changed, self.base[name].shape)}"
        return SchemaMismatchError(f"{self.what}: tensor {name!r}: {shapes}")


Changes = dict[str, Change]
"""What a module changes, by the base's name of the tensor."""


def lora(module: Module) -> Changes:
    """Return the changes of LoRA and DoRA, of linear layers, convolutions and embeddings."""
    if _TOKEN_ROWS in module.parts:
        return tokens(module, _TOKEN_ROWS)
    infix = "embedding_" if module.is_embedding else ""
    a, b = module.part(f"lora_{infix}A"), module.part(f"lora_{infix}B")
    plain = _product(module, b, a)
    transposed = module.is_embedding or is_transposed(module, plain.shape)
    matrix = Product(Factor(a, transposed=True), Factor(b, transposed=True)) if transposed else plain
    changes: Changes = {module.weight: _lora_weight(module, matrix)}
    if "lora_B.bias" in module.parts:
        bias = Factor(module.part("lora_B.bias"))
        if module.bias not in module.base or bias.shape != as_matrix(module.base[module.bias].shape):
            raise module.mismatch((bias.shape[0],), module.bias)
        changes[module.bias] = Added(bias, module.scale)
    return changes


def _lora_weight(module: Module, matrix: Product) -> Change:
    _check_shape(module, matrix)
    if "lora_magnitude_vector" not in module.parts:
        if module.config.use_dora:
            module.part("lora_magnitude_vector")  # says that it is missing
        return Added(matrix, module.scale)
    vector = module.part("lora_magnitude_vector")
    if vector.tensor.spec.num_elements != matrix.shape[0]:
        raise module.mismatch(vector.tensor.spec.shape, module.weight)
    return Renormed(matrix, module.scale, vector)


def is_for_peft(module: Module) -> bool:
    """Tell whether PEFT has to compute a module's change: no row of it can be worked out from that row alone.

    So it is with DoRA where a norm is one of a column, and with the convolutions for which PEFT has forms of its own.
    """
    config, parts = module.config, module.parts
    if config.peft_type == "LORA":
        transposed = module.is_embedding or stored_transposed(module)
        return "lora_magnitude_vector" in parts and bool(transposed)
    if config.peft_type in ("LOHA", "LOKR"):
        is_core = any(name.endswith(("_t1", "_t2")) for name in parts)
        shapes = [part.tensor.spec.shape for part in parts.values()] if config.peft_type == "LOKR" else []
        return is_core or any(len(shape) not in (2, 4) for shape in shapes)
    return config.peft_type in EXPANDED


def stored_transposed(module: Module) -> bool | None:
    """Tell whether LoRA's factors show a layer to store inputs × outputs; None if it has no such factors."""
    if module.config.peft_type != "LORA" or not {"lora_A", "lora_B"} <= module.parts.keys():
        return None
    a, b = (module.parts[name].tensor.spec.shape for name in ("lora_A", "lora_B"))
    return is_transposed(module, (as_matrix(b)[0], as_matrix(a)[1]))


def is_transposed(module: Module, plain: tuple[int, int]) -> bool:
    """Tell whether a layer of these outputs and inputs (`plain`) stores its weight the other way round."""
    if len(module.shape) != 2 or plain[0] == plain[1]:
        return len(module.shape) == 2 and module.config.fan_in_fan_out
    return module.shape == plain[::-1]


def check_orientation(modules: Iterable[Module]) -> None:
    """Raise `UserInputError` if the shapes of other layers contradict what the configuration says of square ones."""
    layers = [module for module in modules if stored_transposed(module) is not None and len(module.shape) == 2]
    square = [module for module in layers if module.shape[0] == module.shape[1]]
    oblong = [module for module in layers if module.shape[0] != module.shape[1]]
    told = [stored_transposed(module) for module in oblong if _fits_either_way(module)]
    if square and any(transposed != square[0].config.fan_in_fan_out for transposed in told):
        raise UserInputError(
            f"{square[0].what}: fan_in_fan_out={square[0].config.fan_in_fan_out} does not hold for all layers, so "
            f"{square[0].name!r}, which is square, may be stored either way; {MERGE}"
        )


def _fits_either_way(module: Module) -> bool:
    outputs, inputs = as_matrix(module.part("lora_B").tensor.spec.shape)[0], module.part("lora_A").tensor.spec.shape[-1]
    return module.shape in ((outputs, inputs), (inputs, outputs))


def ia3(module: Module) -> Changes:
    """Return the changes of (IA)³: inputs of feed-forward layers are scaled, outputs of the others, with their bias."""
    vector = module.part("ia3_l")
    size = vector.tensor.spec.num_elements
    scales_input = module.config.is_feedforward(module.name)
    rows, columns = module.shape[0], module.shape[1] if len(module.shape) > 1 else 1
    transposed = len(module.shape) == 2 and module.config.fan_in_fan_out
    along_rows = scales_input == transposed
    if size != (rows if along_rows else columns):
        raise module.mismatch(vector.tensor.spec.shape, module.weight)
    changes: Changes = {module.weight: Rescaled(vector, "rows" if along_rows else "columns")}
    if module.bias in module.base and not scales_input:
        if module.base[module.bias].num_elements != size:
            raise module.mismatch((size,), module.bias)
        changes[module.bias] = Rescaled(vector, "rows")
    return changes


def loha(module: Module) -> Changes:
    """Return the change of LoHa: the elementwise product of two low-rank matrices."""
    first, second = (_product(module, module.part(f"hada_w{i}_a"), module.part(f"hada_w{i}_b")) for i in (1, 2))
    for matrix in (first, second):
        _check_shape(module, matrix)
    return {module.weight: Hadamard(first, second, module.scale)}


def lokr(module: Module) -> Changes:
    """Return the change of LoKr: the Kronecker product of two matrices, each whole or low-rank."""
    outer, inner = (_whole_or_product(module, f"lokr_w{i}") for i in (1, 2))
    rows, columns = outer.shape[0] * inner.shape[0], outer.shape[1] * inner.shape[1]
    if (rows, columns) != as_matrix(module.shape):
        raise module.mismatch((rows, columns), module.weight)
    return {module.weight: Kronecker(outer, inner, module.scale)}


def tokens(module: Module, part: str = TOKENS) -> Changes:
    """Return the change of an embedding of which some rows were trained whole."""
    stored, config = module.part(part), module.config
    if len(module.parts) > 1:
        raise UserInputError(
            f"{module.what}: {module.name!r} has both factors and rows that were trained whole, and nothing says which "
            f"come first; {MERGE}"
        )
    given = config.token_indices if part == TOKENS else config.token_rows(module.name)
    rows, columns = as_matrix(module.shape)
    if stored.tensor.spec.shape != (len(given), columns):
        raise SchemaMismatchError(
            f"{module.what}: {stored.tensor.name!r}: shape {list(stored.tensor.spec.shape)}, expected {columns} "
            f"numbers for each of the {len(given)} tokens that the configuration names"
        )
    if len(set(given)) != len(given) or not all(0 <= row < rows for row in given):
        wrong = next((row for row in given if not 0 <= row < rows), None)
        why = "a token twice" if wrong is None else f"token {wrong}, the base has {rows}; was its vocabulary resized?"
        raise SchemaMismatchError(f"{module.what}: module {module.name!r}: the configuration names {why}")
    return {module.weight: SomeReplaced(stored, tuple(given))}


def whole(module: Module) -> Changes:
    """Return the changes of a layer, such as a norm, that was trained whole."""
    changes: Changes = {}
    for part, stored in module.parts.items():
        name = module.bias if part.endswith(".bias") else module.weight
        if name not in module.base or module.base[name].shape != stored.tensor.spec.shape:
            raise module.mismatch(stored.tensor.spec.shape, name)
        changes[name] = Replaced(stored)
    return changes


def _whole_or_product(module: Module, name: str) -> Matrix:
    if f"{name}_a" in module.parts:
        return _product(module, module.part(f"{name}_a"), module.part(f"{name}_b"))
    return Factor(module.part(name))


def _product(module: Module, left: Stored, right: Stored) -> Product:
    """Pair two factors whose inner dimension is the module's rank."""
    product, rank = Product(Factor(left), Factor(right)), module.config.rank(module.name)
    if not product.left.shape[1] == product.right.shape[0] == rank:
        hint = "is the configuration another adapter's?"
        if len(module.shape) > 2:
            hint = "PEFT cannot merge convolutions in groups either, if this is one; train without them"
        raise SchemaMismatchError(
            f"{module.what}: tensor {left.tensor.name!r}: shapes {list(left.tensor.spec.shape)} and "
            f"{list(right.tensor.spec.shape)} do not multiply over the configured rank {rank}; {hint}"
        )
    return product


def _check_shape(module: Module, matrix: Matrix) -> None:
    if matrix.shape != as_matrix(module.shape):
        raise module.mismatch(matrix.shape, module.weight)


KINDS: dict[str, Callable[[Module], Changes]] = {
    "LORA": lora,
    "IA3": ia3,
    "LN_TUNING": whole,
    "LOHA": loha,
    "LOKR": lokr,
    "TRAINABLE_TOKENS": tokens,
}
"""What makes the changes of a module, by PEFT's name of the type of adapter."""
