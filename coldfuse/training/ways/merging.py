"""What an adapter made of the base: PEFT's own merge of each layer, in float32, when it is asked for.

    δ = merged weight − θ_t

A weight is merged in a copy of its own, and let go of once its change is written: the model keeps its weights, and
memory is that of one layer. Merged in bfloat16 a change would be rounded away.

The change of LoRA and AdaLoRA is a product, s·BA, and is given as its factors. Others that PEFT can convert to LoRA
(`convert_to_lora`) are given so if the product is the change: both are held against the merged weight. What changes few
elements is given by these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from peft import convert_to_lora
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from coldfuse.core.dtypes import Floats
from coldfuse.errors import UserInputError
from coldfuse.naming.building import LIBRARY_FAILURES
from coldfuse.tensors.changes import Change, ChangesByName, DenseChange, LowRankChange, SparseChange
from coldfuse.training.ways.injecting import ADAPTER
from coldfuse.training.ways.way import Base, Tensors, difference

_Factors = tuple[Floats, Floats, float]
"""B, A and s of s·BA."""

_EXACT = 2.0**-20
"""Share of a change's norm that a product may lack and still be it: what float32 loses on the way."""

_ROUNDING = 2.0**-22
"""Share of the largest weight that merging in float32 may round away."""

RANKS: Mapping[str, Callable[[Any], int]] = {
    "DELORA": lambda config: int(config.r),
    "GRALORA": lambda config: int(config.r * config.gralora_k),
    "LOHA": lambda config: int(config.r**2),
    "MISS": lambda config: int(config.r),
    "TINYLORA": lambda config: int(config.r),
    "UNILORA": lambda config: int(config.r),
    "VBLORA": lambda config: int(config.r),
    "VERA": lambda config: int(config.r),
}
"""The rank that changes of some types have at most."""


@dataclass(frozen=True)
class _Taken:
    """PEFT's layers, out of their model."""

    config: Any
    layers: Sequence[tuple[str, Any]]
    """Each with the path of the layer that it was around."""


_TAKEN: MutableMapping[nn.Module, _Taken] = WeakKeyDictionary()
"""What was taken out of each model, for as long as the model is there: changes may be asked for again."""


def merged_changes(model: nn.Module, base: Base) -> Mapping[str, Change]:
    """Take PEFT's layers out of a model, and return what they changed of the base's tensors.

    Args:
        model: A model that `Adapted.prepare` returned; it has its own layers again afterwards, unchanged.
        base: The base.
    """
    taken, tensors = _take_out(model), base.tensors(model)
    trained = {p.data_ptr() for p in model.parameters() if p.requires_grad}
    found: dict[str, Callable[[], Change]] = {
        name: partial(difference, name, tensor, base)
        for name, tensor in tensors.items()
        if tensor.data_ptr() in trained  # biases that an adapter trains in place
    }
    last = _Last()
    for path, layer, kind, name in _parameters(taken, tensors):
        found[name] = _Merged(path, layer, taken.config, kind, name, base, last).change
    return ChangesByName(found, lambda name: found[name]())


def merged_tensors(model: nn.Module, tensors: Tensors) -> dict[str, Tensor]:
    """Take PEFT's layers out of a model, and return the base's tensors with what they changed, those as copies.

    Args:
        model: A model that `Adapted.prepare` returned; it has its own layers again afterwards, unchanged.
        tensors: Finds the base's tensors in the model.
    """
    taken, found, last = _take_out(model), dict(tensors(model)), _Last()
    for path, layer, kind, name in _parameters(taken, dict(found)):
        found[name] = last.merged(layer, path)[kind]
    return found


def _parameters(taken: _Taken, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Any, str, str]]:
    """Return each layer's parameters that the base has: path, layer, which of its parameters, and the base's name."""
    names = {tensor.data_ptr(): name for name, tensor in tensors.items()}
    for path, layer in taken.layers:
        for kind, parameter in layer.get_base_layer().named_parameters(recurse=False):
            if parameter.data_ptr() in names:
                yield path, layer, kind, names[parameter.data_ptr()]


def _take_out(model: nn.Module) -> _Taken:
    """Put a model's own layers in the place of PEFT's, and return these."""
    if model in _TAKEN:
        return _TAKEN[model]
    config = next(iter(model.peft_config.values()))  # type: ignore[operator]
    layers: list[tuple[str, Any]] = []
    for path, module in list(model.named_modules()):
        inside = any(path.startswith(f"{outer}.") for outer, _ in layers)
        if isinstance(module, BaseTunerLayer) and not inside:
            layers.append((path, module))
    for path, layer in layers:
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
    del model.peft_config
    _TAKEN[model] = _Taken(config, layers)
    return _TAKEN[model]


class _Last:
    """The layer that was merged last: its weight and its bias are asked for one after the other."""

    def __init__(self) -> None:
        self._layer: Any = None
        self._merged: Mapping[str, Tensor] = {}

    def merged(self, layer: Any, path: str) -> Mapping[str, Tensor]:
        """Return a layer's merged parameters, float32, on the processor."""
        if layer is not self._layer:
            self._merged = {}
            with _merging(layer, path) as merged:
                self._merged = {kind: value.detach().cpu() for kind, value in merged.items()}
            self._layer = layer
        return self._merged


@dataclass(frozen=True)
class _Merged:
    """One parameter of one layer, merged."""

    path: str
    layer: Any
    config: Any
    kind: str
    """Which of the layer's parameters: `weight` or `bias`."""
    name: str
    """The base's name of it."""
    base: Base
    last: _Last

    def change(self) -> Change:
        """Merge the layer, and return the change in the smallest form that is exact."""
        after = self.last.merged(self.layer, self.path)[self.kind]
        delta = self._delta(after)
        count = int(np.count_nonzero(delta))
        product = self._product(delta, float(after.abs().max()) if after.numel() else 0.0)
        if product is not None and product.up.size + product.down.size < min(delta.size, 2 * count):
            return product
        if 2 * count < delta.size:
            indices = np.flatnonzero(delta)
            return SparseChange(indices, delta[indices])
        return DenseChange(lambda first, number: delta[first : first + number])

    def _delta(self, after: Tensor) -> NDArray[np.float64]:
        return difference(self.name, after, self.base).read(0, after.numel())

    def _product(self, delta: NDArray[np.float64], largest: float) -> LowRankChange | None:
        """Return the factors whose product the change is, if there are such."""
        if self.kind != "weight":
            return None
        factors = _lora_factors(self.layer) or self._converted(delta)
        if factors is None:
            return None
        up, down, scale = factors
        product = scale * (up.astype(np.float64) @ down.astype(np.float64)).reshape(-1)
        if product.size != delta.size:
            return None
        rounding = _ROUNDING * largest * delta.size**0.5
        lacking = np.linalg.norm(product - delta)
        return LowRankChange(up, down, scale) if lacking <= _EXACT * np.linalg.norm(delta) + rounding else None

    def _converted(self, delta: NDArray[np.float64]) -> _Factors | None:
        """Have PEFT convert the layer to LoRA, where the rank of what it adds is known and small."""
        rank_of, own = RANKS.get(str(self.config.peft_type.value)), self.layer.get_base_layer()
        rank = min(rank_of(self.config), *own.weight.shape[:2]) if rank_of and own.weight.dim() == 2 else 0
        if not 0 < rank * sum(own.weight.shape) < delta.size or not self.layer.supports_lora_conversion(ADAPTER):
            return None
        alone = nn.Module()
        alone.layer = self.layer
        _, state = convert_to_lora(alone, rank)
        down, up = state["layer.lora_A.weight"], state["layer.lora_B.weight"]
        return (
            (_numbers(down.T), _numbers(up.T), 1.0)
            if _is_transposed(self.layer)
            else (_numbers(up), _numbers(down), 1.0)
        )


def _lora_factors(layer: Any) -> _Factors | None:
    """Return s·BA's B, A and s, on the weight as it is stored; None if a layer is none of LoRA's, or of a variant."""
    a: Any
    b: Any
    if not isinstance(layer, LoraLayer) or getattr(layer, "lora_variant", {}).get(ADAPTER):
        return None
    scale = float(layer.scaling[ADAPTER])
    if isinstance(layer, AdaLoraLayer):
        a, b = layer.lora_A[ADAPTER] * layer.lora_E[ADAPTER], layer.lora_B[ADAPTER]
        scale /= float(layer.ranknum[ADAPTER]) + 1e-5  # as PEFT does
    elif ADAPTER in layer.lora_embedding_A:
        return _numbers(layer.lora_embedding_A[ADAPTER].T), _numbers(layer.lora_embedding_B[ADAPTER].T), scale
    else:
        a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    a, b = a.flatten(1), b.flatten(1)
    return (_numbers(a.T), _numbers(b.T), scale) if _is_transposed(layer) else (_numbers(b), _numbers(a), scale)


def _is_transposed(layer: Any) -> bool:
    """Tell whether a layer's weight is stored as inputs × outputs."""
    return bool(getattr(layer, "fan_in_fan_out", False))


def _numbers(tensor: Tensor) -> Floats:
    values: Floats = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
    return values


@contextmanager
def _merging(layer: Any, path: str) -> Iterator[Mapping[str, Tensor]]:
    """Merge a layer into float32 copies of its own parameters, which are back in their place afterwards."""
    own = layer.get_base_layer()
    kept = dict(own._parameters)
    try:
        for kind, parameter in kept.items():
            if parameter is not None:
                own._parameters[kind] = nn.Parameter(parameter.detach().float().clone(), requires_grad=False)
        with _quiet(), torch.no_grad():
            layer.eval()
            layer.merge()
        yield dict(layer.get_base_layer().named_parameters(recurse=False))
    except LIBRARY_FAILURES as error:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserInputError(f"PEFT cannot merge what was trained at {path}: {why}; train another way") from error
    finally:
        if layer.get_base_layer() is not own:  # LN tuning takes the one for the other
            layer.unmerge()
        layer.merged_adapters.clear()
        own._parameters.update(kept)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
