"""An adapter's tensors held against the base: what each of them changes, and what has no place there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coldfuse.adapters.apart import Apart, stored_apart
from coldfuse.adapters.changes import Change, Replaced, Stored
from coldfuse.adapters.config import MERGE, AdapterConfig
from coldfuse.adapters.expansion import ExpandedModule, Expansion, Pending, computed
from coldfuse.adapters.experts import Parameters, is_of_experts, parameter_changes, target_parameters
from coldfuse.adapters.heads import is_tied_head, without_tied_heads
from coldfuse.adapters.kinds import KINDS, Module, check_orientation, is_for_peft, stored_transposed
from coldfuse.adapters.names import Contents
from coldfuse.adapters.types import COUNTING, EXPANDED, SIZED, WITH_BIAS
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.naming.heads import heads_with
from coldfuse.naming.matching import Names, find_modules
from coldfuse.tensors.shapes import differing_shapes

_NESTING = re.compile(r"\.base_layer(?=\.|$)")
"""What stands in a module's name once for each layer of PEFT's that is put around another."""


@dataclass(frozen=True)
class Base:
    """What is known of the base before anything of it is read."""

    schema: Schema
    config: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Held:
    """An adapter held against a base."""

    changes: Mapping[str, Sequence[Change]]
    """Changes by the base's name of the tensor."""
    outside: Sequence[str]
    """The adapter's names of tensors that have no place in the base."""
    expansion: Expansion | None


@dataclass(frozen=True, kw_only=True)
class _Holding:
    """An adapter that is being held against a base."""

    contents: Contents
    config: AdapterConfig
    base: Base
    to_base: Callable[[str], str | None]
    """Returns the base's name of a module or tensor, or None for what lies outside the base's body."""
    what: str
    changes: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    outside: list[str] = field(default_factory=list)


def hold(contents: Contents, config: AdapterConfig, config_json: bytes, base: Base, *, what: str) -> Held:
    """Find what each of an adapter's tensors changes.

    Args:
        contents: The tensors, sorted.
        config: The settings that count.
        config_json: All settings.
        base: The base.
        what: The adapter's name, for errors.

    Raises:
        SchemaMismatchError: The adapter does not fit the base.
        UserInputError: It changes the base in a way that cannot be fused.
    """
    contents = without_tied_heads(contents, config, base.schema, base.config, what=what)
    if not contents.modules:
        raise UserInputError(
            f"{what}: this {config.peft_type} adapter says of no module what becomes of it, only what they share; save "
            f"it with all it needs (save_indices=True), or {MERGE}"
        )
    names = Names(tensors=base.schema.keys(), needed=base.schema.keys(), config=base.config)
    to_base = find_modules([_NESTING.sub("", name) for name in contents.modules], names, what=what)
    holding = _Holding(contents=contents, config=config, base=base, to_base=to_base, what=what)
    layers = _layers(holding)
    native = [layer for layer in layers if not is_for_peft(layer)]
    check_orientation(layers)  # before any factor is read the wrong way round
    for layer in native:
        for name, change in KINDS[config.peft_type](layer).items():
            holding.changes[name].append(change)
    expansion = _expansion(holding, [layer for layer in layers if is_for_peft(layer)], config_json)
    brought = {module.own_weight for module in expansion.modules} if expansion else set()
    _add_whole(holding, brought)
    _check(holding)
    return Held(changes=holding.changes, outside=holding.outside, expansion=expansion)


def _layers(holding: _Holding) -> list[Module]:
    """Return the base's layers, add what changes other parameters, and note what lies outside the base's body."""
    layers: list[Module] = []
    nested: dict[str, list[tuple[int, Mapping[str, Stored]]]] = defaultdict(list)
    for name, parts in holding.contents.modules.items():
        plain = _NESTING.sub("", name)
        module, schema = holding.to_base(plain), holding.base.schema
        if module is None:
            holding.outside.extend(f"{name}.{part}" for part in parts)
            continue
        if _parameters(holding, plain, module):
            nested[plain].append((name.count(".base_layer"), parts))
            continue
        weight = next((f"{module}.{own}" for own in ("weight", "in_proj_weight") if f"{module}.{own}" in schema), None)
        if weight is None:
            has = ", ".join(sorted(n.removeprefix(f"{module}.") for n in schema if n.startswith(f"{module}.")))
            raise SchemaMismatchError(f"{holding.what}: module {module!r} of the base has no weight, but {has[:300]}")
        # PEFT's attention adds this layer's change by itself and once more as a layer, in training as in merging.
        times = 2 if name.endswith(".base_layer.out_proj") else 1
        layers.append(Module(
            name=plain, weight=weight, parts=parts, config=holding.config, base=schema, what=holding.what, times=times
        ))  # fmt: skip
    for name, levels in nested.items():
        _add_parameters(holding, name, [parts for _, parts in sorted(levels, key=lambda level: level[0])])
    return layers


def _parameters(holding: _Holding, name: str, module: str) -> dict[str, Apart | None]:
    """Return the parameters of a module that the adapter targets and the base has, and how it stores those in parts."""
    schema, targets = holding.base.schema, target_parameters(name, holding.config)
    found = {own: stored_apart(module, own, schema) for own in targets}
    return {own: apart for own, apart in found.items() if apart or f"{module}.{own}" in schema}


def _add_parameters(holding: _Holding, name: str, levels: Sequence[Mapping[str, Stored]]) -> None:
    """Add the changes of a module's own parameters, such as all experts of a layer."""
    module, schema = holding.to_base(name) or "", holding.base.schema
    for parts in levels:
        if parts.keys() != {"lora_A", "lora_B"}:
            has = ", ".join(sorted(parts))
            raise UserInputError(
                f"{holding.what}: module {name!r} has {has}, expected lora_A and lora_B alone; {MERGE}"
            )
    found = _parameters(holding, name, module)
    whole = {f"{module}.{own}": apart.spec for own, apart in found.items() if apart}
    group = Parameters(
        name=name, module=module, levels=[(parts["lora_A"], parts["lora_B"]) for parts in levels],
        parameters=list(found), config=holding.config, base={**schema, **whole},
        model_type=str(holding.base.config.get("model_type") or ""),
        what=holding.what,
    )  # fmt: skip
    for tensor, change in parameter_changes(group).items():
        apart = found[tensor.removeprefix(f"{module}.")]
        for part, own in (apart.changes(change) if apart else {tensor: change}).items():
            holding.changes[part].append(own)


def _expansion(holding: _Holding, layers: Sequence[Module], config_json: bytes) -> Expansion | None:
    """Note what PEFT is to compute."""
    if not layers:
        return None
    _check_shared(holding, layers)
    schema, changed = holding.base.schema, []
    for layer in layers:
        names = [layer.weight] if holding.config.peft_type != "BEFT" else []
        changed += names + ([layer.bias] if layer.has_bias and holding.config.peft_type in WITH_BIAS else [])
    for name in changed:
        holding.changes[name].append(Pending())
    of_layers = {name: schema[name] for layer in layers for name in (layer.weight, layer.bias) if name in schema}
    return Expansion(
        what=holding.what, peft_type=holding.config.peft_type, config_json=config_json,
        shared=holding.contents.shared,
        modules=tuple(_module(holding, layer) for layer in layers), changed=computed(schema, changed),
        base=of_layers, base_config=holding.base.config,
    )  # fmt: skip


def _check_shared(holding: _Holding, layers: Sequence[Module]) -> None:
    """Raise `UserInputError` if what modules share follows from all of them, and some are not in the base."""
    inside, peft_type = {layer.name for layer in layers}, holding.config.peft_type
    outside = sorted(holding.contents.modules.keys() - inside)
    if outside and (peft_type in COUNTING or (peft_type in SIZED and not holding.contents.shared)):
        raise UserInputError(
            f"{holding.what}: what a {peft_type} adapter makes of one module follows from all that were trained, and "
            f"the base has no {outside[0][:200]!r}; give a base with it, or {MERGE}"
        )


def _module(holding: _Holding, layer: Module) -> ExpandedModule:
    own = holding.contents.whole.get(f"{layer.name}.weight")
    if own is not None and own.tensor.spec.shape != layer.shape:
        raise layer.mismatch(own.tensor.spec.shape, layer.weight)
    return ExpandedModule(
        name=layer.name, weight=layer.weight, own_weight=own, is_embedding=layer.is_embedding,
        transposed=stored_transposed(layer), parts=tuple(layer.parts.values()),
    )  # fmt: skip


def _add_whole(holding: _Holding, brought: set[Stored | None]) -> None:
    """Add the tensors that were trained whole to the changes, and note those that stay out."""
    schema, placed = holding.base.schema, dict[str, tuple[str, Stored]]()
    for own_name, stored in holding.contents.whole.items():
        if stored in brought:
            continue
        name = holding.to_base(own_name)
        if name is None or name not in schema or not schema[name].is_fused:
            holding.outside.append(own_name)
        elif name in placed and not placed[name][1].same_bytes(stored):
            raise SchemaMismatchError(
                f"{holding.what}: tensors {placed[name][0][:200]!r} and {own_name[:200]!r} are both the base's {name}, "
                "and differ; remove the one that is not meant"
            )
        else:
            placed[name] = own_name, stored
    heads = _other_heads(placed, holding.base)
    holding.outside.extend(placed[name][0] for name in heads)
    for name in sorted(placed.keys() - heads):
        _, stored = placed[name]
        if stored.tensor.spec.shape != schema[name].shape:
            shapes = differing_shapes(stored.tensor.spec.shape, schema[name].shape)
            raise SchemaMismatchError(f"{holding.what}: tensor {name!r}: {shapes}")
        holding.changes[name].append(Replaced(stored))


def _other_heads(placed: Mapping[str, tuple[str, Stored]], base: Base) -> frozenset[str]:
    """Return the base's tensors of heads that the adapter has for another task: one of them has another shape."""
    names = {name for name in placed if not is_tied_head(name)}
    differing = {name for name in names if placed[name][1].tensor.spec.shape != base.schema[name].shape}
    return heads_with(differing, names, base.config)


def _check(holding: _Holding) -> None:
    if holding.config.peft_type not in EXPANDED:  # those may have indices among their tensors
        _check_dtypes(holding, [part for parts in holding.contents.modules.values() for part in parts.values()])
    _check_dtypes(holding, holding.contents.whole.values())
    for name, several in holding.changes.items():
        dtype = holding.base.schema[name].dtype
        if not holding.base.schema[name].is_fused:
            raise SchemaMismatchError(f"{holding.what}: tensor {name!r}: the base has it as {dtype}, never fused")
        if len(several) > 1 and not all(change.is_sum and not is_of_experts(change) for change in several):
            raise UserInputError(
                f"{holding.what}: tensor {name!r} is changed twice, in ways that do not add up; {MERGE}"
            )


def _check_dtypes(holding: _Holding, tensors: Iterable[Stored]) -> None:
    for stored in tensors:
        if not stored.tensor.spec.is_fused:
            raise UserInputError(
                f"{holding.what}: tensor {stored.tensor.name[:200]!r}: {stored.tensor.spec.dtype} is no dtype that can "
                "be fused; save the adapter in float32, float16 or bfloat16"
            )
