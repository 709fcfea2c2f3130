"""Names that differ by a prefix alone: a model with a head has `bert.embeddings.weight`, its body `embeddings.weight`.

One difference must explain all: either a prefix that is taken off, under which the whole body lies, or one that is put
before every name. Wrappers that torch puts around a model and its layers (`torch.compile`, FSDP, `DataParallel`) are no
names at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.|^module\.")
"""What `torch.compile`, FSDP, checkpoints of activations and `DataParallel` put into names."""

_ASKED = 16
"""Number of names that are looked for behind another prefix in the base."""


@dataclass(frozen=True)
class Prefix:
    """How all names of a model differ from the base's."""

    removed: str = ""
    """Prefix that is taken off the model's names; names without it lie outside the base's body."""
    added: str = ""
    """Prefix that is put before them."""

    def to_base(self, name: str) -> str | None:
        """Return the base's name, or None for what lies outside the base's body.

        >>> Prefix(removed="bert.").to_base("bert.pooler.bias"), Prefix(removed="bert.").to_base("classifier.bias")
        ('pooler.bias', None)
        """
        return self.added + name.removeprefix(self.removed) if name.startswith(self.removed) else None

    def __str__(self) -> str:
        return repr(self.added) if self.added else f"without {self.removed!r}" if self.removed else "none"


def without_wrappers(name: str) -> str:
    """Return a name without what torch's wrappers put into it.

    >>> without_wrappers("module._orig_mod.encoder.weight"), without_wrappers("encoder._orig_mod.weight")
    ('encoder.weight', 'encoder.weight')
    """
    while (plain := _WRAPPERS.sub(r"\1", name)) != name:
        name = plain
    return name


def candidates(own: Collection[str], base: Collection[str]) -> list[Prefix]:
    """Return the prefixes under which most of the names lie, and those that the first of them have in the base."""
    steps = (name.split(".") for name in own)
    counts = Counter(".".join(parts[:end]) + "." for parts in steps for end in range(1, len(parts)))
    removed = [Prefix(removed=prefix) for prefix, count in counts.items() if 2 * count > len(own)]
    asked = [name for name in sorted(own) if name not in base][:_ASKED]
    added = dict.fromkeys(name.removesuffix(wanted) for wanted in asked for name in base if name.endswith(f".{wanted}"))
    return [Prefix(), *removed, *(Prefix(added=prefix) for prefix in added)]
