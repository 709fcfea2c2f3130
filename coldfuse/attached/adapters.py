"""PEFT's adapters in a model of the user's own.

Each round begins with a fresh adapter on the new release: that holds already what the last one changed, fused with the
others', and an adapter that were kept would add it once more. What it makes of the weights is merged in float32 as it
leaves (`coldfuse.adapters`), never in the model. A fresh adapter is the one that the user made, kept in a file; where
that is not neutral on the new release (DoRA and others begin from its values), PEFT makes it anew.
"""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from coldfuse.attached.own import own_tensors, unwrapped
from coldfuse.errors import UserInputError
from coldfuse.naming.prefixes import without_wrappers

_MODEL = "base_model.model."


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
    inner = unwrapped(model)
    ((name, config),) = inner.peft_config.items()
    inner.delete_adapter(name)
    inner.add_adapter(name, config) if hasattr(inner, "get_base_model") else inner.add_adapter(config, name)
    inner.set_adapter(name)


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
