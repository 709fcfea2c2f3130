"""Tensors of a module on a frozen body by the federation's names: those of a contributor's model may have a prefix.

PEFT names a factor by the modules of the model that it was put into: `encoder.layer.0…` in a body alone is
`bert.encoder.layer.0…` in a classifier with that body. One prefix must explain all.
"""

from __future__ import annotations

from collections.abc import Mapping

from coldfuse.adapters.names import PEFT_PREFIX
from coldfuse.core.schema import Schema
from coldfuse.errors import SchemaMismatchError
from coldfuse.naming.prefixes import candidates

Shape = tuple[int, ...]

_FACTORS = {"lora_A": 0, "lora_B": 1, "lora_embedding_A": 0, "lora_embedding_B": 1}
"""The dimension of each factor that is its rank."""


def match_module(own: Mapping[str, Shape], module: Schema, *, what: str) -> dict[str, str]:
    """Return the model's own name of each of the federation's tensors.

    Args:
        own: Shape of each tensor of a model's module, by its own names; more than the module's are left out.
        module: The federation's tensors.
        what: The model's name, for errors.

    Raises:
        SchemaMismatchError: It lacks one of them, or has it in another shape.
    """
    plain = {name.removeprefix(PEFT_PREFIX): name for name in own}
    wanted = {name.removeprefix(PEFT_PREFIX): name for name in module}
    best: dict[str, str] = {}
    for prefix in candidates(plain.keys(), wanted.keys()):
        found = {wanted[to]: plain[name] for name in plain if (to := prefix.to_base(name)) in wanted and to is not None}
        if len(found) > len(best):
            best = found
    if missing := sorted(module.keys() - best.keys()):
        raise SchemaMismatchError(
            f"{what}: lacks {missing[0]} of the federation's module{_and_more(missing)}; train what the federation "
            "shares: load the release with PeftModel.from_pretrained(body, folder, is_trainable=True)"
        )
    for name, theirs in best.items():
        if own[theirs] != module[name].shape:
            raise SchemaMismatchError(f"{what}: tensor {theirs}: {_differing(name, own[theirs], module[name].shape)}")
    return best


def _and_more(names: list[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def _differing(name: str, own: Shape, want: Shape) -> str:
    part = name.removesuffix(".weight").rpartition(".")[2]
    dimension = _FACTORS.get(part)
    if dimension is not None and len(own) == len(want) and own[dimension] != want[dimension]:
        return f"its rank is {own[dimension]}, the federation's module has rank {want[dimension]}; train with that"
    return f"its shape is {list(own)}, the federation's module has {list(want)}; was another body or module trained?"
