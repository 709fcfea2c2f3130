"""Putting an adapter of PEFT's into a model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import peft
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils.peft_types import PeftType
from torch import nn

from coldfuse.errors import UserInputError
from coldfuse.naming.building import LIBRARY_FAILURES
from coldfuse.training.ways.settings import make_config
from coldfuse.training.ways.way import Parameters

ADAPTER = "default"
"""Name of the one adapter."""


def inject(peft_type: str, settings: Mapping[str, Any], *, model: nn.Module, shared: Parameters, line: str) -> Any:
    """Put an adapter into a model, freeze what is shared, and return PEFT's tuner.

    Args:
        peft_type: PEFT's name of the type.
        settings: PEFT's settings.
        model: The model; its own layers are wrapped in place.
        shared: The parameters that the base has, by the model's own names.
        line: What the user wrote, for errors.

    Raises:
        UserInputError: PEFT cannot do it, or what would be trained could not be shared.
    """
    own = {id(parameter) for parameter in shared.values()}
    private = [p for p in model.parameters() if p.requires_grad and id(p) not in own]
    with _blaming(model, line):
        config = make_config(peft_type, settings, model=model, shared=shared)
        tuner_class: Any = PEFT_TYPE_TO_TUNER_MAPPING[PeftType(peft_type)]
        tuner = tuner_class(model, config, ADAPTER)
        tuner._cast_adapter_dtype(ADAPTER, True)  # factors in float32, as PEFT's own wrapper has them
    for parameter in private:
        parameter.requires_grad_(True)
    for path in tuner.targeted_module_names:
        _check_target(path, model.get_submodule(path), model=model, own=own, line=line)
    return tuner


def _check_target(path: str, layer: Any, *, model: nn.Module, own: set[int], line: str) -> None:
    """Refuse a layer that is not shared, or that is tied to one that would not be trained with it."""
    weight = layer.get_base_layer().weight
    if id(weight) not in own:
        raise UserInputError(
            f"--train {line}: {path} is not shared, so what is trained there would stay here; leave it out of "
            "target_modules"
        )
    homes = [module for module in model.modules() if any(p is weight for p in module.parameters(recurse=False))]
    if len(homes) > 1 and not hasattr(layer, "trainable_tokens_delta"):  # these PEFT ties itself
        raise UserInputError(
            f"--train {line}: {path} is tied to another layer, which would change with it after training but not in "
            "it; leave it out of target_modules"
        )


@contextmanager
def _blaming(model: nn.Module, line: str) -> Iterator[None]:
    """Turn what PEFT raises into one line, and keep its warnings, which are about what is done here on purpose."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserInputError:
        raise
    except LIBRARY_FAILURES as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserInputError(
            f"--train {line}: PEFT {peft.__version__} cannot put it on {type(model).__name__}: {why}"
        ) from error
