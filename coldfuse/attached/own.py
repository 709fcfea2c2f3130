"""The tensors of a model in memory, by names without what wrappers put into them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from torch import Tensor, nn

from coldfuse.naming.prefixes import without_wrappers

_PEFT_PREFIX = "base_model.model."
_PEFT_LAYER = re.compile(r"\.(base_layer|original_module|modules_to_save\.[^.]+|ln_tuning_layers\.[^.]+)(?=\.)")
"""What PEFT puts into the name of a tensor of the model that it adapts, or of its copy of a whole module."""


@dataclass(frozen=True)
class Own:
    """One tensor of a model: its module keeps it under an attribute, whatever is wrapped around that later."""

    module: nn.Module
    attribute: str

    @property
    def tensor(self) -> Tensor:
        """The tensor as it lies there now: sharded, it is this process's share."""
        tensor: Tensor = getattr(self.module, self.attribute)
        return tensor

    @property
    def is_float(self) -> bool:
        """True for what may be shared."""
        return self.tensor.is_floating_point()


def own_tensors(model: nn.Module) -> dict[str, Own]:
    """Return the tensors that a model's state dict would hold, by its own names; tied ones under each of their names.

    A state dict itself is not made: where the model is sharded, that would gather all of it.
    """
    found: dict[str, Own] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        begin = f"{prefix}." if prefix else ""
        for name in [*module._parameters, *_kept_buffers(module)]:
            if getattr(module, name) is not None:
                found[without_wrappers(begin + name)] = Own(module, name)
    return found


def _kept_buffers(module: nn.Module) -> Iterator[str]:
    return (name for name in module._buffers if name not in module._non_persistent_buffers_set)


TorchModule = nn.Module
"""A model in memory."""


def is_module(model: object) -> TypeGuard[nn.Module]:
    """Tell a model in memory from what else a fine-tuned model may come as."""
    return isinstance(model, nn.Module)


def is_peft(model: object) -> bool:
    """Tell whether PEFT has put adapters into a model, from outside or by the model's own `add_adapter`."""
    return bool(getattr(unwrapped(model), "peft_config", None))


def unwrapped(model: Any) -> Any:
    """Take off what is around a whole model: DDP, FSDP, DeepSpeed's engine, `torch.compile`."""
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "_fsdp_wrapped_module", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel", "DeepSpeedEngine"):
            inner = model.module
        if inner is None:
            return model
        model = inner


def plain_model(model: Any) -> Any:
    """Return the model inside, without wrappers and without PEFT's: the one whose class and configuration count."""
    inner = unwrapped(model)
    get_base = getattr(inner, "get_base_model", None)
    return get_base() if callable(get_base) else inner


def without_peft(own_name: str) -> str:
    """Return the name that a tensor had before PEFT wrapped its module.

    >>> without_peft("base_model.model.bert.encoder.query.base_layer.weight")
    'bert.encoder.query.weight'
    >>> without_peft("base_model.model.classifier.modules_to_save.default.bias")
    'classifier.bias'
    """
    return _PEFT_LAYER.sub("", own_name.removeprefix(_PEFT_PREFIX))


def config_of(model: object) -> Mapping[str, object]:
    """Return a model's configuration with its class; empty if it is none of transformers'."""
    inner = plain_model(model)
    to_dict = getattr(getattr(inner, "config", None), "to_dict", None)
    name = type(inner).__name__.removeprefix("FSDP")  # what FSDP2 calls the class that it makes of a module's
    return {**to_dict(), "architectures": [name]} if callable(to_dict) else {}
