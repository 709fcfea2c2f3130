"""An adapter's tensors, sorted by what they are.

PEFT names a factor `base_model.model.<module>.lora_A.weight`, by the modules of the model that was trained; the base's
names for these modules are found by `coldfuse.naming`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coldfuse.adapters.changes import Stored
from coldfuse.adapters.config import MERGE
from coldfuse.errors import UserInputError

_PEFT_PREFIX = "base_model.model."
_PARTS = {
    "LORA": ("lora_A.weight", "lora_B.weight", "lora_B.bias", "lora_embedding_A", "lora_embedding_B",
             "lora_magnitude_vector", "lora_magnitude_vector.weight"),
    "IA3": ("ia3_l",),
    "LOHA": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    "LOKR": ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
}  # fmt: skip
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


def sort_tensors(tensors: Iterable[Stored], peft_type: str, *, what: str) -> Contents:
    """Tell factors from tensors that were trained whole.

    Raises:
        UserInputError: A tensor belongs to another type of adapter, or there are no factors.
    """
    modules: dict[str, dict[str, Stored]] = defaultdict(dict)
    whole: dict[str, Stored] = {}
    for stored in tensors:
        name = stored.tensor.name.removeprefix(_PEFT_PREFIX)
        part = next((part for part in _PARTS[peft_type] if name.endswith(f".{part}")), None)
        if part is not None:
            modules[name.removesuffix(f".{part}")][part.removesuffix(".weight")] = stored
        elif _FOREIGN.search(name):
            raise UserInputError(f"{what}: tensor {name[:200]!r} is none of a plain {peft_type} adapter's; {MERGE}")
        elif ".original_module." not in name:  # an untouched copy, which PEFT saves with some settings
            whole.setdefault(_WRAPPERS.sub(".", name), stored)  # some settings of PEFT save a tensor under two names
    if not modules:
        raise UserInputError(f"{what}: holds no tensor of a {peft_type} adapter; save it with PEFT's save_pretrained()")
    return Contents(modules, whole)
