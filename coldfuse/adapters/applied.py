"""What PEFT makes of an adapter's folder: the change of each layer once it is loaded on the base.

PEFT finds modules by their names in memory and passes over what it does not find, so an adapter is held against PEFT
itself. The base is a hollow one: layers of its shapes over a single zero, which takes no memory.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from coldfuse.adapters.changes import Float64
from coldfuse.adapters.layout import Layer, LoraLayout
from coldfuse.adapters.recompress import norm_of
from coldfuse.errors import FusionError
from coldfuse.naming.architecture import Architecture

_ADAPTER = "default"


def layers_that_peft_takes(architecture: Architecture, layout: LoraLayout) -> LoraLayout:
    """Return the layout without the layers that PEFT refuses to give factors, such as some of Mamba's.

    Raises `ImportError` if PEFT is not installed.
    """
    if _are_taken(architecture, layout.layers.values()):
        return layout
    by_role: dict[str, dict[str, Layer]] = defaultdict(dict)
    for name, layer in layout.layers.items():
        by_role[layer.module.rpartition(".")[2]][name] = layer
    taken = [layers for layers in by_role.values() if _are_taken(architecture, layers.values())]
    return replace(layout, layers={name: layer for layers in taken for name, layer in layers.items()})


def _are_taken(architecture: Architecture, layers: Iterable[Layer]) -> bool:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=1, target_modules=[layer.module for layer in layers])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            inject_adapter_in_model(config, copy.deepcopy(architecture.model), low_cpu_mem_usage=True)
    except ValueError:
        return False
    return True


def measure_applied(
    folder: Path, architecture: Architecture, layout: LoraLayout, names: Mapping[str, object],
    read_delta: Callable[[str], Float64],
) -> dict[str, float]:  # fmt: skip
    """Load an adapter with PEFT, and return what of each tensor's delta is missing, ‖δ − ΔPEFT‖.

    One matrix is in memory at a time.

    Args:
        folder: The adapter's folder.
        architecture: The base's class.
        layout: The layers with factors.
        names: The base's names of the tensors that have factors.
        read_delta: Returns a tensor's whole delta.

    Raises:
        ImportError: PEFT is not installed.
        FusionError: PEFT does not take the adapter, or passes over a part of it.
    """
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the hollow base, and of settings that are meant
        try:
            model: Any = PeftModel.from_pretrained(
                _hollow(architecture.model), str(folder), low_cpu_mem_usage=True, torch_device="cpu"
            )
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FusionError(f"PEFT does not load the adapter that was made: {error}") from error
    missing = {}
    for name in names:
        layer = model.base_model.model.get_submodule(layout.layers[name].module)
        if not hasattr(layer, "get_delta_weight") or _ADAPTER not in getattr(layer, "scaling", {}):
            raise FusionError(
                f"{folder}: PEFT passes over the factors of {name}: it has no adapter at {layout.layers[name].module}"
            )
        delta = read_delta(name).reshape(-1)
        missing[name] = norm_of(delta - _values(layer.get_delta_weight(_ADAPTER)))
    return missing


def _hollow(meta: Any) -> Any:
    """Return a model on the processor whose tensors are all one zero: PEFT moves factors to where their layer lies."""
    import torch

    model = copy.deepcopy(meta)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            values = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
            setattr(module, name, torch.nn.Parameter(values, requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.zeros((), dtype=buffer.dtype).expand(buffer.shape))
    return model


def _values(delta: Any) -> Float64:
    return np.asarray(delta.detach().double().numpy()).reshape(-1)
