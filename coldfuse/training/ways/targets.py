"""Which layers an adapter is put on where the user names none: found by what they are, not by their names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from peft.utils import constants
from torch import nn
from transformers.pytorch_utils import Conv1D

from coldfuse.errors import UserInputError
from coldfuse.training.ways.way import Parameters


def default_targets(peft_type: str, model: nn.Module, shared: Parameters) -> list[str]:
    """Return the paths of the layers that an adapter of a type changes by default.

    All linear layers of the shared body but the one that scores a vocabulary; those with a bias (BEFT), those that
    PEFT's table names ((IA)³: keys, values and the second of a feed-forward block), the norms (LN tuning), or the
    embedding of the input's tokens (trainable tokens).
    """
    if peft_type == "LN_TUNING":
        return [path for path, module in _owners(model, shared) if "norm" in type(module).__name__.lower()]
    if peft_type == "TRAINABLE_TOKENS":
        return [path for path, module in _owners(model, shared) if module is token_embedding(model)]
    layers = list(linear_layers(model, shared))
    if peft_type == "BEFT":
        layers = [(path, layer) for path, layer in layers if layer.bias is not None]
    paths = [path for path, _ in layers]
    if peft_type == "IA3":
        named = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(_model_type(model), ())
        return [path for path in paths if _ends(path, named)] or paths
    return paths


def linear_layers(model: nn.Module, shared: Parameters) -> Iterator[tuple[str, Any]]:
    """Return the linear layers that are shared, but one that is tied to an embedding or scores a vocabulary."""
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    scoring = {id(_call(module, "get_output_embeddings")) for module in model.modules()}
    kind = _model_type(model)
    for path, module in _owners(model, shared):
        is_linear = isinstance(module, nn.Linear | Conv1D) and not _is_refused(path, kind)
        if is_linear and id(module) not in scoring and id(module.weight) not in looked_up:
            yield path, module


def feedforward_targets(model: nn.Module, targets: list[str], named: list[str] | None = None) -> list[str]:
    """Return the layers whose inputs (IA)³ scales: the second of each feed-forward block.

    Args:
        model: The model.
        targets: The layers that are changed.
        named: What the user says; None: what PEFT's table of models says.

    Raises:
        UserInputError: There are none among the layers, or PEFT does not know them for this type of model.
    """
    known: Mapping[str, list[str]] = constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    found = [path for path in targets if _ends(path, named or known.get(_model_type(model), []))]
    if not found:
        raise UserInputError(
            f"--train ia3: which layers of {type(model).__name__} are the second of a feed-forward block is not known; "
            'name them, such as ia3(feedforward_modules="output.dense")'
        )
    return found


def dividing_size(model: nn.Module, targets: list[str], *, most: int) -> int:
    """Return the largest number up to `most` that divides the inputs and outputs of all layers."""
    weights = [model.get_submodule(path).get_parameter("weight") for path in targets]
    sizes = [size for weight in weights for size in weight.shape]
    common = math.gcd(*sizes)
    return next(size for size in range(min(most, common), 0, -1) if common % size == 0)


def _is_refused(path: str, model_type: str) -> bool:
    """Tell whether PEFT refuses a layer: Mamba's kernels read this one's weight past the layer."""
    return path.endswith("out_proj") and any(word in model_type for word in ("mamba", "falcon_h1", "nemotron_h"))


def _model_type(model: nn.Module) -> str:
    types = (getattr(getattr(module, "config", None), "model_type", None) for module in model.modules())
    return next(filter(None, map(str, filter(None, types))), "")


def _ends(path: str, names: Iterable[str]) -> bool:
    return any(f".{path}".endswith(f".{name}") for name in names)


def token_embedding(model: nn.Module) -> nn.Module | None:
    """Return the embedding of the input's tokens, if the model says which it is."""
    return next(
        (found for m in model.modules() if isinstance(found := _call(m, "get_input_embeddings"), nn.Module)), None
    )


def _owners(model: nn.Module, shared: Parameters) -> Iterator[tuple[str, nn.Module]]:
    """Return the modules that have a weight of their own that is shared."""
    own = {id(parameter) for parameter in shared.values()}
    for path, module in model.named_modules():
        weight = module._parameters.get("weight")
        if path and weight is not None and id(weight) in own:
            yield path, module


def _call(module: nn.Module, method: str) -> object:
    try:
        return getattr(module, method)()
    except (AttributeError, NotImplementedError, TypeError):
        return None
