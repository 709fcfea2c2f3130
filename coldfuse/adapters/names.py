"""An adapter's tensors, sorted by what they are.

PEFT names a factor `base_model.model.<module>.lora_A.weight`, by the modules of the model that was trained; the base's
names for these modules are found by `coldfuse.naming`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from coldfuse.adapters.changes import Stored
from coldfuse.adapters.config import MERGE
from coldfuse.adapters.types import EXPANDED
from coldfuse.errors import UserInputError

PEFT_PREFIX = "base_model.model."
"""What PEFT puts before the name of a module of the model."""

TOKENS = "trainable_tokens_delta"
"""PEFT's name for rows of an embedding that were trained alone."""

_PARTS = {
    "LORA": ("lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A", "lora_embedding_B",
             "lora_magnitude_vector", "lora_magnitude_vector.weight", f"token_adapter.{TOKENS}"),
    "IA3": ("ia3_l",),
    "LN_TUNING": ("ln_tuning_layers.bias", "ln_tuning_layers.weight"),
    "LOHA": ("hada_t1", "hada_t2", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "LOKR": ("lokr_t2", "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
    "TRAINABLE_TOKENS": (TOKENS,),
}  # fmt: skip
_PREFIXES = {"ADALORA": "lora_"}
"""How the names of a type's own tensors begin, where it is not the type's name."""

_FOREIGN = re.compile(r"(^|\.)((lora|ia3|hada|lokr|trainable_tokens)_|token_adapter\.)")
"""A tensor of some adapter, though not one of the parts that are known."""
_WRAPPERS = re.compile(r"\.modules_to_save\.(default\.)?|\.base_layer\.")
"""Modules that PEFT puts around those of the model."""


@dataclass(frozen=True)
class Contents:
    """An adapter's tensors, sorted by what they are."""

    modules: Mapping[str, Mapping[str, Stored]] = field(default_factory=dict)
    """Factors by the adapter's name of the module, then by PEFT's name of the factor."""
    whole: Mapping[str, Stored] = field(default_factory=dict)
    """Tensors that were trained whole, by the adapter's name."""
    shared: tuple[Stored, ...] = ()
    """Tensors that all modules share, of adapters that PEFT computes."""


def sort_tensors(tensors: Iterable[Stored], peft_type: str, *, what: str) -> Contents:
    """Tell factors from tensors that were trained whole.

    Raises:
        UserInputError: A tensor belongs to another type of adapter, or there are no factors.
    """
    modules: dict[str, dict[str, Stored]] = defaultdict(dict)
    whole: dict[str, Stored] = {}
    shared: list[Stored] = []
    find_part = _own_part(peft_type)
    for stored in tensors:
        name = stored.tensor.name.removeprefix(PEFT_PREFIX)
        module, part = find_part(name)
        if part and module == "base_model":
            shared.append(stored)
        elif part:
            modules[module][part.removesuffix(".weight")] = stored
        elif _FOREIGN.search(name):
            raise UserInputError(f"{what}: tensor {name[:200]!r} is none of a plain {peft_type} adapter's; {MERGE}")
        elif ".original_module." not in name:  # an untouched copy, which PEFT saves with some settings
            first = whole.setdefault(_WRAPPERS.sub(".", name), stored)  # some settings of PEFT save it under two names
            if first is not stored and not first.same_bytes(stored):
                raise UserInputError(
                    f"{what}: tensors {first.tensor.name[:200]!r} and {stored.tensor.name[:200]!r} are one module's, "
                    "and differ; remove the one that is not meant"
                )
    if not modules and not shared:
        raise UserInputError(f"{what}: holds no tensor of a {peft_type} adapter; save it with PEFT's save_pretrained()")
    return Contents(modules, whole, tuple(shared))


def _own_part(peft_type: str) -> Callable[[str], tuple[str, str]]:
    """Return what splits the name of a type's own tensor into module and part; the part is "" for other tensors."""
    if peft_type in EXPANDED:
        begins = re.compile(rf"^(.+?)\.({_PREFIXES.get(peft_type, peft_type.lower() + '_')}.*)$")
    else:
        begins = re.compile(rf"^(.+)\.({'|'.join(map(re.escape, _PARTS[peft_type]))})$")

    def split(name: str) -> tuple[str, str]:
        found = begins.match(name)
        return (found[1], found[2]) if found else ("", "")

    return split
