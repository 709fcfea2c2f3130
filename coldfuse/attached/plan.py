"""Which tensors of a model in memory are shared, by the base's names, and which stay and are kept."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from coldfuse.adapters.module_names import match_module
from coldfuse.attached.access import whole_shape
from coldfuse.attached.adapters import adapter_names
from coldfuse.attached.own import Own, config_of, is_peft, own_tensors, plain_model, unwrapped, without_peft
from coldfuse.attached.ranks import is_several
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError, UserInputError
from coldfuse.naming.architecture import Architecture, find_architecture
from coldfuse.naming.matching import Names, match_model
from coldfuse.naming.sharing import Share, only
from coldfuse.tensors.checkpoint import Checkpoint

_FEWEST = 0.5
"""Share of the base's elements that a model must have, to count as the base with a head of its own."""

_NARROWEST = 2
"""Bytes of the narrowest floats that hold a weight alone; those of eight bits do with their scales."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What becomes of each tensor of a model; made by the first process, and the same for all."""

    shared: Mapping[str, str]
    """The base's name of each shared tensor, by the model's own name; tied tensors have several."""
    private: tuple[str, ...]
    """The model's tensors that stay, and are kept for the next round."""
    adapters: tuple[str, ...]
    """PEFT's own tensors."""
    unchanged: tuple[str, ...]
    """Tensors of the base that the model does not have, or that are not shared."""

    def as_told(self) -> dict[str, object]:
        """Return it as the processes tell it to each other."""
        return {
            "shared": dict(self.shared), "private": self.private, "adapters": self.adapters,
            "unchanged": self.unchanged,
        }  # fmt: skip

    @classmethod
    def of_told(cls, told: Any) -> Plan:
        """Undo `as_told`, after JSON."""
        return cls(
            shared=dict(told["shared"]), private=tuple(told["private"]), adapters=tuple(told["adapters"]),
            unchanged=tuple(told["unchanged"]),
        )  # fmt: skip


def make_plan(model: nn.Module, base: Checkpoint, share: Share = None) -> Plan:
    """Hold a model in memory against the base.

    Names are matched as transformers matches them when it loads the base; those of a module that is none of its own,
    as they are or by one prefix. Floats are shared, buffers such as a batch norm's running statistics too; integers
    and booleans never are.

    Raises:
        SchemaMismatchError: It is no copy of the base, or a tensor has another shape.
        UserInputError: A pattern names nothing.
    """
    own = own_tensors(model)
    if base.module is not None:
        return _plan_of_module(model, own, base, share)
    adapters = adapter_names(model) if is_peft(model) else set[str]()
    plain = {name: without_peft(name) if adapters else name for name in own if name not in adapters}
    found = _match(set(plain.values()), config_of(model), base, type(plain_model(model)).__name__)
    shared = {name: found[short] for name, short in plain.items() if short in found}
    named = only(share, shared.items())
    shared = {name: to for name, to in shared.items() if name in named}
    _check(own, shared, base.schema)
    taken = {id(own[name].tensor) for name in shared}
    private = tuple(
        name for name in own
        if name not in shared and name not in adapters and id(own[name].tensor) not in taken and _may_change(own[name])
    )  # fmt: skip
    unchanged = {name for name, spec in base.schema.items() if spec.is_fused} - set(shared.values())
    return Plan(shared=shared, private=private, adapters=tuple(sorted(adapters)), unchanged=tuple(sorted(unchanged)))


def _plan_of_module(model: nn.Module, own: Mapping[str, Own], base: Checkpoint, share: Share) -> Plan:
    """Hold a model against a module that a federation shares on a frozen body: an adapter's tensors are the shared."""
    if share is not None:
        raise UserInputError("share: this federation says itself which module is shared; leave share out")
    adapter = "|".join(map(re.escape, getattr(unwrapped(model), "peft_config", None) or ["default"]))
    saved = {re.sub(rf"\.({adapter})(?=\.|$)", "", name): name for name in own}
    shapes = {name: whole_shape(own[inside].tensor) for name, inside in saved.items() if own[inside].is_float}
    found = match_module(shapes, base.schema, what=type(plain_model(model)).__name__)
    shared = {saved[name]: to for to, name in found.items() if base.schema[to].is_fused}
    private = tuple(name for name in own if name not in shared and own[name].tensor.requires_grad)
    return Plan(shared=shared, private=private, adapters=(), unchanged=())


def _match(names: Collection[str], config: Mapping[str, object], base: Checkpoint, what: str) -> dict[str, str]:
    """Return the base's name of each of the model's tensors that the base has and that is fused."""
    sizes = {name: spec.num_elements for name, spec in base.schema.items() if spec.is_fused}
    matched = match_model(
        Names(tensors=names, needed=names, config=config),
        Names(tensors=base.schema.keys(), needed={name for name, size in sizes.items() if size}, config=base.config),
        what=what,
    )
    found = {name: to for name, to in matched.base_names.items() if to in sizes}
    _refuse_parts(sizes.keys() - set(found.values()), config, what)
    if sum(sizes[to] for to in found.values()) < _FEWEST * sum(sizes.values()):
        hint = f" ({matched.unknown})" if matched.unknown else ""
        raise SchemaMismatchError(
            f"{what}: has {len(found)} of the base's {len(sizes)} tensors, such as {min(sizes, default='-')}; expected "
            f"the base's architecture, with its names or those that transformers loads into the same places{hint}"
        )
    return found


def _refuse_parts(missing: Collection[str], config: Mapping[str, object], what: str) -> None:
    """Refuse a model whose tensors files hold in several parts: they would stay behind, and nobody would notice."""
    architecture = find_architecture(config) if missing and config else None
    if isinstance(architecture, Architecture) and (parts := sorted(filter(architecture.is_part, missing))):
        raise SchemaMismatchError(
            f"{what}: transformers holds {parts[0]} and {len(parts) - 1} others otherwise in memory than in files, as "
            "it does with experts, and they cannot be set one by one; train it with coldfuse contribute, or save it "
            "and contribute the folder"
        )


def _check(own: Mapping[str, Own], shared: Mapping[str, str], base: Schema) -> None:
    for name, to in shared.items():
        tensor = own[name].tensor
        if tensor.is_meta and not is_several():  # of several processes, FSDP fills those of the others
            raise UserInputError(
                f"tensor {name} has no elements in memory (device meta), so that no release can be set into it; load "
                "the model onto a device, without offloading to the CPU or the disk"
            )
        if not own[name].is_float or tensor.element_size() < _NARROWEST:
            raise UserInputError(
                f"tensor {name} is of {own[name].tensor.dtype}, and {base[to].dtype} in the base: a quantised model "
                "cannot be set to a release; load it in bfloat16 or float32"
            )
        shape = whole_shape(own[name].tensor)
        if shape != base[to].shape:
            raise SchemaMismatchError(
                f"tensor {name}: shape {list(shape)}, the base has {list(base[to].shape)}; was its vocabulary or a "
                "layer resized? What stays private is left out by patterns: share='encoder.*'"
            )


def _may_change(own: Own) -> bool:
    """Tell what training changes from what a user has frozen, and builds the same again."""
    return own.tensor.requires_grad or own.attribute in own.module._buffers
