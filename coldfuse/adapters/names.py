"""From the names of an adapter's tensors to those of the base.

PEFT names a factor `base_model.model.<module>.lora_A.weight`, by the modules of the model that was trained. The base's
files may name the same modules with a prefix less (a body saved without its head's `bert.`) or more. One difference
must explain all: either a prefix that is taken off, under which the whole body lies, or one that is put before.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from coldfuse.adapters.changes import Stored
from coldfuse.adapters.config import MERGE
from coldfuse.adapters.types import EXPANDED
from coldfuse.errors import SchemaMismatchError, UserInputError

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
            whole.setdefault(_WRAPPERS.sub(".", name), stored)  # some settings of PEFT save a tensor under two names
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


def find_naming(modules: Collection[str], base: Collection[str], *, what: str) -> Naming:
    """Find the one prefix that makes the adapter's modules the base's.

    Args:
        modules: The adapter's names of its modules.
        base: The base's names of its tensors.
        what: The adapter's name, for errors.

    Raises:
        SchemaMismatchError: No prefix fits, or several do.
    """
    known = {name[:end] for name in base for end in _dots(name)}
    fits = [naming for naming in _candidates(modules, known) if _fits(naming, modules, known)]
    if Naming() in fits:
        return Naming()
    if len(fits) > 1:
        found = " or ".join(sorted(naming.added or f"-{naming.removed}" for naming in fits)[:2])
        raise SchemaMismatchError(f"{what}: its modules fit the base in several ways (prefix {found}); rename them")
    if not fits:
        missing = next((name for name in sorted(modules) if name not in known), "")
        raise SchemaMismatchError(
            f"{what}: module {missing[:200]!r} is not in the base, under any prefix: it is another model than the one "
            f"that the adapter was trained on, or one without this part; the base has {_few(known)}"
        )
    return fits[0]


def _dots(name: str) -> list[int]:
    return [index for index, letter in enumerate(name) if letter == "."]


def _few(modules: Collection[str]) -> str:
    """Name some of the base's modules, to compare with."""
    longest = sorted(modules, key=lambda name: (-name.count("."), name))
    return f"{longest[0][:200]!r}, for example" if longest and longest[0] else "no modules"


def _candidates(modules: Collection[str], base: Collection[str]) -> list[Naming]:
    """Return the prefixes under which most of the adapter lies, and those that its first module has in the base."""
    steps = (name.split(".") for name in modules)
    counts = Counter(".".join(parts[:end]) + "." for parts in steps for end in range(1, len(parts)))
    removed = [Naming(removed=prefix) for prefix, count in counts.items() if 2 * count > len(modules)]
    first = next(iter(modules), "")
    added = [Naming(added=name.removesuffix(first)) for name in base if name.endswith(f".{first}")]
    return [Naming(), *removed, *added]


def _fits(naming: Naming, modules: Collection[str], base: Collection[str]) -> bool:
    return all(name in base for name in map(naming.to_base, modules) if name is not None)
