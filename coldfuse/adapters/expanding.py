"""Changes that PEFT computes: module by module, into a scratch file of deltas.

    expand(adapter.expansion, reader.floats, scratch / "deltas.safetensors")
    adapter = adapter.placed(scratch / "deltas.safetensors")

A model of nothing but the module at hand is made from the base's shapes, holds the base's weight, is wrapped by PEFT
from the adapter's own configuration, loads the adapter's tensors and is merged; the delta is what it became less what
it was. So memory is that of one module, a few times over. Where modules share something (projections, a bank of
vectors), the model has all of them, but only the one at hand has a weight: the others' take no memory.

Merging is done in float64 where PEFT can, and the deltas are kept in float32. Unlike changes that are worked out here,
these go through BLAS: their last bits depend on the machine.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from numpy.typing import NDArray

from coldfuse.adapters.changes import read_stored
from coldfuse.adapters.config import MERGE
from coldfuse.adapters.expansion import ExpandedModule, Expansion
from coldfuse.adapters.layout import TRANSPOSING
from coldfuse.adapters.names import PEFT_PREFIX
from coldfuse.adapters.peculiar import in_seed_order, refresh_frod
from coldfuse.adapters.peft_config import config_for
from coldfuse.adapters.skeleton import Weights, join, read_weights, tensor_of
from coldfuse.core.dtypes import from_floats
from coldfuse.errors import UserInputError
from coldfuse.naming.building import LIBRARY_FAILURES

ReadBase = Callable[[str], NDArray[np.float64]]
"""read(name): return all elements of one of the base's tensors, flat, in an array of their own."""

_TOGETHER = frozenset({"ADALORA", "PVERA", "RANDLORA", "TINYLORA", "UNILORA", "VBLORA", "VERA"})
"""Types whose modules share something, or whose configuration names modules one by one."""

_SINGLE_PRECISION = frozenset({"PSOFT"})
"""Types that PEFT computes in float32 only."""

_MOST_DOUBLES = 1 << 28
"""Number of elements of the largest weight that is merged in float64: 2 GiB."""

_ERRORS = (*LIBRARY_FAILURES, re.error)
"""What PEFT and torch raise about what they cannot do."""

_HEAD = re.compile(r"(^|\.)(classifier|lm_head|qa_outputs|score)$")
"""Layers that store outputs × inputs in models whose other layers do not."""

_Deltas = Iterator[tuple[str, NDArray[np.float64]]]
"""Tensors' deltas by the base's names."""


def expand(expansion: Expansion, read_base: ReadBase, out: Path) -> None:
    """Have PEFT compute an adapter's deltas, and write them.

    Args:
        expansion: The adapter.
        read_base: Reads the base's tensors.
        out: The file to write.

    Raises:
        UserInputError: PEFT cannot do it.
    """
    entries = {entry.name: entry for entry in expansion.header.tensors}
    with open(out, "wb") as file, _quiet():
        file.write(expansion.head)
        for name, delta in _Expanding(expansion, read_base).deltas():
            file.seek(entries[name].start)
            file.write(from_floats(np.ascontiguousarray(delta).reshape(-1), "F32").data)


@dataclass(frozen=True)
class _Expanding:
    """One adapter on its way through PEFT."""

    expansion: Expansion
    read_base: ReadBase

    def deltas(self) -> _Deltas:
        """Yield the delta of each tensor that changes."""
        modules = sorted(self.expansion.modules, key=lambda module: _natural(module.name))
        if self.expansion.peft_type == "TINYLORA":
            with self._blaming(modules[0]):
                modules = in_seed_order(modules, json.loads(self.expansion.config_json))
        together = self.expansion.peft_type in _TOGETHER
        for group in [modules] if together else [[module] for module in modules]:
            with self._blaming(group[0]):
                model = self._wrapped(group, real=not together)
            for module in group:
                with self._blaming(module):
                    yield from self._merged(model, module)

    def _merged(self, model: Any, module: ExpandedModule) -> _Deltas:
        """Merge one module, and yield what became of its tensors."""
        layer, weights = _layer(model, module), self._weights(module, real=True)
        own = layer.get_base_layer()
        own.weight.data = weights.weight
        if weights.bias is not None:
            own.bias.data = weights.bias
        before = {name: value.clone() for name, value in own.named_parameters()}
        layer.merge()
        for kind, value in layer.get_base_layer().named_parameters():
            name = module.weight if kind == "weight" else module.weight.removesuffix("weight") + kind
            delta = _doubles(value) - _doubles(before[kind])
            if kind == "weight" and module.own_weight is not None:  # the delta is to the base's, not to the adapter's
                delta = _doubles(value) - self.read_base(name).reshape(delta.shape)
            if name in self.expansion.changed:
                yield name, delta
            elif delta.any():
                raise ValueError(f"it also changes {name}")
        own.weight.data = own.weight.new_zeros(1).expand(own.weight.shape)

    def _weights(self, module: ExpandedModule, *, real: bool) -> Weights:
        """Return a module's weights in the base, or placeholders for them."""
        schema, bias = self.expansion.base, module.weight.removesuffix("weight") + "bias"
        spec = schema[module.weight]
        single = self.expansion.peft_type in _SINGLE_PRECISION or spec.num_elements > _MOST_DOUBLES
        shapes = [spec.shape, schema[bias].shape if bias in schema else None]

        def read_weight() -> NDArray[np.float64]:
            if module.own_weight is None:
                return self.read_base(module.weight)
            return read_stored(module.own_weight, 0, spec.num_elements)

        readers = [read_weight, lambda: self.read_base(bias)] if real else None
        return read_weights(shapes, readers, torch.float32 if single else torch.float64)

    def _is_transposed(self, module: ExpandedModule) -> bool:
        """Tell whether a linear layer stores inputs × outputs."""
        if module.transposed is not None:
            return module.transposed
        model_type = self.expansion.base_config.get("model_type")
        flag = json.loads(self.expansion.config_json).get("fan_in_fan_out")
        if flag and model_type not in TRANSPOSING:
            raise ValueError(
                f"it says that layers store inputs × outputs (fan_in_fan_out), and models of type "
                f"{str(model_type)[:50]} are not known to"
            )
        return model_type in TRANSPOSING and not _HEAD.search(module.name)

    def _wrapped(self, modules: Sequence[ExpandedModule], *, real: bool) -> Any:
        """Return a model of these modules, wrapped by PEFT and with the adapter's tensors."""
        config, layers = config_for(self.expansion, modules), {}
        for module in modules:
            layers[module.name] = self._weights(module, real=real).layer(module, transposed=self._is_transposed(module))
        model = peft.get_peft_model(join(layers), config, autocast_adapter_dtype=False)
        parts = [(PEFT_PREFIX + _plain(part.tensor.name), part) for module in modules for part in module.parts]
        shared = [(part.tensor.name, part) for part in self.expansion.shared]
        given = {name: tensor_of(part) for name, part in (*parts, *shared)}
        wanted = set(peft.get_peft_model_state_dict(model, save_embedding_layers=False))
        if self.expansion.peft_type == "FROD":  # what it shares is by the names of modules, and others' are not wanted
            given = {name: value for name, value in given.items() if name in wanted or name.startswith(PEFT_PREFIX)}
        if differing := sorted(wanted ^ given.keys()):
            raise ValueError(f"the file {'lacks' if differing[0] in wanted else 'has also'} {differing[0]}")
        peft.set_peft_model_state_dict(model, dict(given))
        model.eval()
        if self.expansion.peft_type == "FROD":
            refresh_frod(model, [_layer(model, module) for module in modules])
            peft.set_peft_model_state_dict(model, dict(given))
        return model

    @contextmanager
    def _blaming(self, module: ExpandedModule) -> Iterator[None]:
        """Turn what PEFT raises into one line."""
        try:
            yield
        except _ERRORS as error:
            why = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserInputError(
                f"{self.expansion.what}: PEFT {peft.__version__} cannot compute what this {self.expansion.peft_type} "
                f"adapter makes of module {module.name!r}: {why}; {MERGE}"
            ) from error


def _layer(model: Any, module: ExpandedModule) -> Any:
    return model.base_model.model.get_submodule(module.name)


def _doubles(values: torch.Tensor) -> NDArray[np.float64]:
    return values.detach().double().numpy()


def _plain(name: str) -> str:
    return name.removeprefix(PEFT_PREFIX)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what puts names in the order of a model's layers: numbers by their value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"\.", name)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PEFT's warnings, which are for who trains, and its random numbers to itself."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield
