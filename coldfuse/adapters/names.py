"""From the names of an adapter's tensors to those of the base.

PEFT names a factor `base_model.model.<module>.lora_A.weight`, by the modules of the model that was trained. The base's
files may name the same modules with a prefix less (a body saved without its head's `bert.`) or more. One difference
must explain all: either a prefix that is taken off, under which the whole body lies, or one that is put before.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from coldfuse.adapters.changes import Stored
from coldfuse.adapters.config import MERGE
from coldfuse.errors import SchemaMismatchError, UserInputError

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


@dataclass(frozen=True)
class Naming:
    """How the adapter's names differ from the base's."""

    removed: str = ""
    """Prefix that is taken off the adapter's names; names without it lie outside the base's body."""
    added: str = ""
    """Prefix that is put before them."""

    def to_base(self, name: str) -> str | None:
        """Return the base's name, or None for what lies outside the base's body."""
        return self.added + name.removeprefix(self.removed) if name.startswith(self.removed) else None


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


def find_naming(modules: Collection[str], base: Collection[str], *, what: str) -> Naming:
    """Find the one prefix that makes the adapter's modules the base's.

    Args:
        modules: The adapter's names of its modules.
        base: The base's names of its tensors.
        what: The adapter's name, for errors.

    Raises:
        SchemaMismatchError: No prefix fits, or several do.
    """
    weights = [f"{module}.weight" for module in modules]
    fits = [naming for naming in _candidates(weights, base) if _fits(naming, weights, base)]
    if Naming() in fits:
        return Naming()
    if len(fits) > 1:
        found = " or ".join(sorted(naming.added or f"-{naming.removed}" for naming in fits)[:2])
        raise SchemaMismatchError(f"{what}: its modules fit the base in several ways (prefix {found}); rename them")
    if not fits:
        missing = next((name for name in sorted(weights) if name not in base), "")
        raise SchemaMismatchError(
            f"{what}: tensor {missing[:200]!r} is not in the base, under any prefix; "
            "give the base that the adapter was trained on"
        )
    return fits[0]


def _candidates(weights: list[str], base: Collection[str]) -> list[Naming]:
    """Return the prefixes under which most of the adapter lies, and those that its first module has in the base."""
    steps = (name.split(".") for name in weights)
    counts = Counter(".".join(parts[:end]) + "." for parts in steps for end in range(1, len(parts) - 1))
    removed = [Naming(removed=prefix) for prefix, count in counts.items() if 2 * count > len(weights)]
    added = [Naming(added=name.removesuffix(weights[0])) for name in base if name.endswith(f".{weights[0]}")]
    return [Naming(), *removed, *added]


def _fits(naming: Naming, weights: list[str], base: Collection[str]) -> bool:
    return all(name in base for name in map(naming.to_base, weights) if name is not None)
