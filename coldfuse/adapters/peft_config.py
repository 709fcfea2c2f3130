"""An adapter's configuration as PEFT is given it: for modules that it is told, and nothing that reaches elsewhere.

A configuration arrives with the adapter. Some of its settings have PEFT import modules or unpickle files, and others
say how much memory is taken before a tensor is looked at: the former never reach it, the latter are bounded by what
the file and the base hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType

from coldfuse.adapters.expansion import ExpandedModule, Expansion

_OF_LORA = frozenset({
    "alpha", "alpha_pattern", "decompose_both", "decompose_factor", "fan_in_fan_out", "init_r", "lora_alpha",
    "lora_bias", "module_dropout", "peft_type", "r", "rank_dropout_scale", "rank_pattern", "target_r", "total_step",
    "use_dora", "use_effective_conv2d", "use_rslora",
})  # fmt: skip
"""Settings that reach PEFT of LoRA and its relatives, whose others can name files and modules."""

_ALL_OF_LORA = frozenset({"ADALORA", "LOHA", "LOKR", "LORA"})

_NEVER = frozenset({"auto_mapping", "base_model_name_or_path", "peft_version", "revision"})

_ELSEWHERE: Mapping[str, object] = {
    "bias": "none", "exclude_modules": None, "inference_mode": True, "layers_pattern": None,
    "layers_to_transform": None, "modules_to_save": None, "progressbar": False, "target_parameters": None,
    "task_type": None, "trainable_token_indices": None,
}  # fmt: skip
"""Settings of what is read here, or of where PEFT would look for modules, which it is told."""

_FREE = ("delta", "key", "seed", "step", "tfinal", "tinit")
"""What the names of numbers have in them that take no memory."""

_USUAL_SIZE = 4096
"""Size that no setting is refused for, however small a model and a file are: defaults are made for large models."""


def config_for(expansion: Expansion, modules: Sequence[ExpandedModule]) -> Any:
    """Return PEFT's own configuration, for these modules alone.

    Raises:
        ValueError: PEFT does not know the type, or a setting asks for more than there can be.
        TypeError: A setting is none of PEFT's.
    """
    if expansion.peft_type not in PeftType.__members__:
        raise ValueError(f"it does not know adapters of type {expansion.peft_type}; install a newer one")
    given = {name: value for name, value in json.loads(expansion.config_json).items() if name not in _NEVER}
    if expansion.peft_type in _ALL_OF_LORA:
        given = {name: value for name, value in given.items() if name in _OF_LORA}
    _check_sizes(given, _most(expansion))
    config: Any = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(expansion.peft_type)]
    config = config.from_peft_type(**given)
    for name, value in _ELSEWHERE.items():
        if hasattr(config, name):
            setattr(config, name, value)
    config.target_modules = [module.name for module in modules]
    return config


def _most(expansion: Expansion) -> int:
    """Return the largest size that can be meant: of a tensor in the file, or of a layer."""
    parts = [part for module in expansion.modules for part in module.parts]
    own = [size for part in (*parts, *expansion.shared) for size in part.tensor.spec.shape]
    return max(_USUAL_SIZE, *own, *(size for spec in expansion.base.values() for size in spec.shape))


def _check_sizes(value: object, most: int, name: str = "") -> None:
    """Raise `ValueError` if a number is larger than any size that can be meant, also in lists and patterns."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_sizes(item, most, name or str(key))
    elif isinstance(value, list):
        for item in value:
            _check_sizes(item, most, name)
    elif isinstance(value, int) and value > most and not any(word in name.lower() for word in _FREE):
        raise ValueError(f"{name[:50]}={value:.3g} is more than the adapter or the base has")
