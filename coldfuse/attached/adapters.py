"""PEFT's adapters in a model of the user's own.

Each round begins with a fresh adapter on the new release: that holds already what the last one changed, fused with the
others', and an adapter that were kept would add it once more. What it makes of the weights is merged in float32 as it
leaves (`coldfuse.adapters`), never in the model. A fresh adapter is the one that the user made, kept in a file; where
that is not neutral on the new release (DoRA and others begin from its values), PEFT makes it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from coldfuse.attached.own import own_tensors, unwrapped
from coldfuse.errors import UserInputError
from coldfuse.naming.prefixes import without_wrappers
from coldfuse.tensors.tensor_reader import TensorReader

_MODEL = "base_model.model."

_PIECE = 1 << 20
"""Elements that are looked at together."""

_ROUNDING = 2.0**-20
"""What float32 may lose in a few steps, relative to the largest weight."""


def adapter_names(model: nn.Module) -> set[str]:
    """Return PEFT's own tensors in a model; its copies of whole modules (a head) are the model's."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    inner = unwrapped(model)
    found: set[str] = set()
    for prefix, module in inner.named_modules(remove_duplicate=False):
        if isinstance(module, BaseTunerLayer):  # which PEFT does not say is a module
            begin = without_wrappers(f"{prefix}.")
            names = own_tensors(cast("nn.Module", module))
            found |= {begin + name for name in names if not name.startswith(("base_layer.", "ln_tuning_layers."))}
    if hasattr(inner, "get_base_model"):
        found |= {name for name in own_tensors(inner) if not name.startswith(_MODEL)}
    return found


def remake(model: Any) -> None:
    """Have PEFT make a model's adapter anew, on the weights that the model has now."""
    from peft import inject_adapter_in_model

    inner = unwrapped(model)
    ((name, config),) = inner.peft_config.items()
    if hasattr(inner, "get_base_model"):
        inner.base_model.inject_adapter(inner.base_model.model, name)  # in the place of the one that is there
    else:
        inject_adapter_in_model(config, inner, name)
    inner.set_adapter(name)


def is_rounding(read: Callable[[int, int], NDArray[np.float64]], theta: TensorReader, name: str) -> bool:
    """Tell whether what an adapter does to a tensor is no more than rounding, as that of a new DoRA is."""
    num_elements = theta.entry(name).spec.num_elements
    for first in range(0, num_elements, _PIECE):
        count = min(_PIECE, num_elements - first)
        delta = read(first, count)
        if delta.any() and np.abs(delta).max() > _ROUNDING * np.abs(theta.floats(name, first, count)).max():
            return False
    return True


def require_mergeable(model: Any) -> None:
    """Refuse adapters that are no change of the shared weights, before anything is trained.

    Raises:
        UserInputError: It has several adapters at once, or one that changes only inputs.
    """
    configs = unwrapped(model).peft_config
    if len(configs) != 1:
        raise UserInputError(f"expected one adapter in the model, got {', '.join(configs)}; delete the others first")
    for name, config in configs.items():
        if getattr(config, "is_prompt_learning", False) or getattr(config, "is_adaption_prompt", False):
            raise UserInputError(
                f"adapter {name}: {config.peft_type} changes inputs and no weights of the base, so there is no delta; "
                "take LoRA or another type that PEFT can merge"
            )
