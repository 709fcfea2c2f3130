"""What two of PEFT's types need that their configuration and tensors do not give them, when modules are taken alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from coldfuse.adapters.expansion import ExpandedModule
from coldfuse.adapters.skeleton import tensor_of

_SEED = 42
"""PEFT's default of `projection_seed`."""


def refresh_frod(model: Any, layers: Sequence[Any]) -> None:
    """Have FRoD work out again what follows from a weight and a shared basis, now that it has the adapter's basis."""
    config = model.peft_config["default"]
    for layer in layers:
        layer.update_layer("default", layer.frod_V, layer.frod_s_indices, layer.frod_s_size, config=config)


def in_seed_order(modules: Sequence[ExpandedModule], settings: Mapping[str, object]) -> list[ExpandedModule]:
    """Return TinyLoRA's modules in the order in which their model has them, which says who shares a vector with whom.

    A file does not say it, but the random projections do: that of the module at place i comes from the seed plus i.

    Raises:
        ValueError: The projections are not saved, or others than their seed gives.
    """
    given = [_projection(module) for module in modules]
    base_seed = settings.get("projection_seed", _SEED)
    if not isinstance(base_seed, int):
        raise TypeError(f"projection_seed {base_seed!r} is no number")
    found: dict[int, ExpandedModule] = {}
    for place in range(len(modules)):
        for module, projection in zip(modules, given, strict=True):
            rank = projection.shape[-1]
            seeded = torch.Generator().manual_seed(base_seed + place)
            made = torch.normal(mean=0.0, std=1.0 / rank**0.5, size=tuple(projection.shape), generator=seeded)
            if torch.equal(made.to(projection.dtype), projection):
                found[place] = module
    if len(found) != len(modules):
        raise ValueError("its random projections do not follow from its seed, so the order of its modules is not known")
    return [found[place] for place in sorted(found)]


def _projection(module: ExpandedModule) -> torch.Tensor:
    for part in module.parts:
        if part.tensor.name.endswith(".tinylora_P"):
            return tensor_of(part)
    raise ValueError("its random projections are not saved (save_projection), so the order of its modules is not known")
