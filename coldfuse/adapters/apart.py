"""Experts that a model holds in one tensor and its files in several, one for each expert and part.

    experts.gate_up_proj (E × 2O × I)   is   experts.0.gate_proj.weight, experts.0.up_proj.weight, …, all O × I
    experts.down_proj (E × O × I)       is   experts.0.down_proj.weight, …

That is how transformers saves Qwen-MoE, DeepSeek, OLMoE and others; Mixtral calls the parts w1, w3 and w2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coldfuse.adapters.changes import Added
from coldfuse.adapters.experts import expert_part
from coldfuse.core.schema import Schema, TensorSpec

_PARTS = {"gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")), "down_proj": (("down_proj",), ("w2",))}
"""What a tensor of all experts is made of, in the order of its outputs, by the names that files use."""


@dataclass(frozen=True, kw_only=True)
class Apart:
    """A parameter of all experts that the base stores in parts."""

    spec: TensorSpec
    """Dtype and shape of the whole."""
    tensors: tuple[tuple[str, ...], ...]
    """The base's names of each expert's parts."""

    def changes(self, whole: Added) -> Mapping[str, Added]:
        """Return the change of each part, given that of the whole."""
        found: dict[str, Added] = {}
        for expert, names in enumerate(self.tensors):
            size = self.spec.shape[1] // len(names)
            for place, name in enumerate(names):
                found[name] = expert_part(whole, expert, first_output=place * size, num_outputs=size)
        return found


def stored_apart(module: str, parameter: str, base: Schema) -> Apart | None:
    """Find the parts of a parameter among a base's tensors; None if the base does not have it so."""
    for parts in _PARTS.get(parameter, ()):
        tensors: list[tuple[str, ...]] = []
        while all(f"{module}.{len(tensors)}.{part}.weight" in base for part in parts):
            tensors.append(tuple(f"{module}.{len(tensors)}.{part}.weight" for part in parts))
        specs = {base[name].shape for names in tensors for name in names}
        if len(specs) == 1 and len(shape := specs.pop()) == 2:
            whole = (len(tensors), len(parts) * shape[0], shape[1])
            return Apart(spec=TensorSpec(dtype=base[tensors[0][0]].dtype, shape=whole), tensors=tuple(tensors))
    return None
