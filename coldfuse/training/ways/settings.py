"""PEFT's settings of a type of adapter, as users write them and as PEFT is given them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType
from torch import nn

from coldfuse.errors import UserInputError
from coldfuse.training.ways.targets import default_targets, dividing_size, feedforward_targets
from coldfuse.training.ways.way import Parameters

_LISTS = frozenset({
    "exclude_modules", "feedforward_modules", "layers_pattern", "layers_to_transform", "target_modules",
    "target_parameters", "token_indices",
})  # fmt: skip
"""Settings of several values."""

_OURS: Mapping[str, str] = {
    **dict.fromkeys(
        ("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision",
         "task_type"), "it follows from the federation"),
    "modules_to_save": "heads train and stay here whatever is said; for whole layers there is layers(…)",
    "trainable_token_indices": "train tokens alone, by trainable-tokens(token_indices=…)",
    "layer_replication": "it gives the model layers that the base does not have",
    **dict.fromkeys(
        ("corda_config", "eva_config", "kasa_config", "loftq_config", "lora_ga_config", "target_svd_config"),
        "it needs a pass over data before training"),
    **dict.fromkeys(
        ("alora_invocation_tokens", "arrow_config", "monteclora_config", "use_asa", "use_bdlora", "use_qalora",
         "velora_config"), "what it adds is no change of weights alone"),
    **dict.fromkeys(("megatron_config", "megatron_core", "runtime_config"), "it is about the machine"),
    **dict.fromkeys(("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "total_step"),
                    "ranks stay as they are here; say init_r"),
}  # fmt: skip
"""Settings of PEFT that are not for users here, and why."""

_DIVIDING = {"C3A": "block_size", "ROAD": "group_size", "VBLORA": "vector_length"}
"""Settings that have to divide the sizes of all layers."""

_STARTS_FROM_DATA = frozenset({"corda", "eva", "loftq", "lora_ga"})


_SHORT = {
    "alpha": ("lora_alpha", "psoft_alpha", "randlora_alpha"),
    "rank": ("init_r", "r", "effective_rank"),
}  # fmt: skip
"""What settings are called that differ by type."""


def read_setting(peft_type: str, key: str, text: object) -> tuple[str, object]:
    """Return PEFT's name of a setting, and its value.

    Raises:
        ValueError: There is no such setting, or it is not for users.
    """
    fields = {field.name for field in dataclasses.fields(config_class(peft_type))}
    name = key if key in fields else next((name for name in _SHORT.get(key, ()) if name in fields), key)
    if peft_type == "ADALORA" and name == "r":
        name = "init_r"
    if name in _OURS:
        raise ValueError(f"{key} cannot be set: {_OURS[name]}")
    if name not in fields:
        short = {key for key, names in _SHORT.items() if fields & set(names)}
        known = sorted(short | fields - _OURS.keys())
        close = get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise ValueError(f"it has no parameter {key!r}; {hint}it has {', '.join(known)}")
    return name, _value(name, text)


def make_config(peft_type: str, settings: Mapping[str, Any], *, model: nn.Module, shared: Parameters) -> Any:
    """Return PEFT's configuration for a model.

    Raises:
        UserInputError: No layer of the model is changed by default.
        Exception: PEFT does not take the settings.
    """
    given = dict(settings)
    if given.get("target_modules") in (None, "all-linear") and not given.get("target_parameters"):
        given["target_modules"] = default_targets(peft_type, model, shared)
        if not given["target_modules"]:
            raise UserInputError(
                f"--train {peft_type.lower()}: {type(model).__name__} has no layer that it changes by default; name "
                "some by target_modules"
            )
    targets = given.get("target_modules")
    if peft_type == "IA3" and isinstance(targets, list):
        given["feedforward_modules"] = feedforward_targets(model, targets, given.get("feedforward_modules"))
    if peft_type == "ADALORA":  # ranks are not moved between layers
        given |= {"tinit": 0, "tfinal": 0, "total_step": 1, "target_r": given.get("init_r", 12)}
    if peft_type == "FROD":
        given.setdefault("progressbar", False)
    size = _DIVIDING.get(peft_type)
    if size and size not in given and not settings.get("target_modules"):
        given[size] = dividing_size(model, given["target_modules"], most=_default(peft_type, size))
    return config_class(peft_type)(**given)


def config_class(peft_type: str) -> Any:
    """Return PEFT's class of configurations of a type."""
    return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(peft_type)]


def _default(peft_type: str, setting: str) -> int:
    found: Any = next(field.default for field in dataclasses.fields(config_class(peft_type)) if field.name == setting)
    return int(found)


def _value(key: str, text: object) -> object:
    """Read a setting as it is written."""
    if not isinstance(text, str):
        return text
    if text[:1] in ("{", "["):
        return json.loads(text)
    if key in _LISTS and not set(text) & set("*[]()|\\^$+?") and text != "all-linear":
        return [_scalar(part.strip()) for part in text.split(",")]
    value = _scalar(text)
    if key.startswith("init_") and value in _STARTS_FROM_DATA:
        raise ValueError(f"{key}={value} cannot be set: it needs a pass over data before training")
    return value


def _scalar(text: str) -> object:
    words: dict[str, object] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
