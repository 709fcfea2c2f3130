"""Ways that train parameters of the model itself: all, or some."""

from __future__ import annotations

import math
import re
from typing import ClassVar

from pydantic import Field, model_validator
from torch import nn

from coldfuse.errors import UserInputError
from coldfuse.training.moving import freeze_statistics
from coldfuse.training.ways.way import Parameters, Preparation, Way, freeze_all_but


class Full(Way):
    """All weights are trained."""

    name: ClassVar = "full"
    trains: ClassVar = "all weights"
    sends: ClassVar = "a dense tensor for each that changed"
    source: ClassVar = "ColD Fusion (arXiv 2212.01378)"

    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Freeze nothing."""
        del shared, preparation
        return model


class _Some(Way):
    """Some parameters are trained, the others are frozen."""

    def _keep(self, model: nn.Module, shared: Parameters, trained: set[str], *, missing: str) -> nn.Module:
        if not trained & shared.keys():
            raise UserInputError(f"--train {self.name}: {type(model).__name__} {missing}; choose another way")
        freeze_all_but(shared, trained)
        freeze_statistics(model)
        return model


class Bias(_Some):
    """All biases are trained, those of norms among them."""

    name: ClassVar = "bias"
    trains: ClassVar = "biases"
    sends: ClassVar = "dense biases"
    source: ClassVar = "BitFit (arXiv 2106.10199)"

    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Freeze all but biases."""
        del preparation
        biases = {name for name in shared if name.rpartition(".")[2].endswith("bias")}
        return self._keep(model, shared, biases, missing="has no biases")


class Norms(_Some):
    """Weights and biases of normalisations are trained, and the running means of batch norms move."""

    name: ClassVar = "norms"
    trains: ClassVar = "normalisations"
    sends: ClassVar = "their dense weights, biases and running means"
    source: ClassVar = "LN-tuning (arXiv 2211.08682), and arXiv 2003.00152 for batch norm"

    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Freeze all but normalisations."""
        del preparation
        norms = {
            f"{path}.{name}" if path else name
            for path, module in model.named_modules(remove_duplicate=False)
            if "norm" in type(module).__name__.lower()
            for name, _ in module.named_parameters(recurse=False)
        }
        return self._keep(model, shared, norms, missing="has no normalisations with weights")


class Layers(_Some):
    """Whole layers of the model's stacks are trained."""

    name: ClassVar = "layers"
    trains: ClassVar = "some layers, whole"
    sends: ClassVar = "a dense tensor for each of their weights that changed"
    source: ClassVar = "freezing lower layers (arXiv 1801.06146, section 3.3)"

    last: int | None = Field(default=None, ge=1)
    """Number of layers, counted from the output."""
    upper: float | None = Field(default=None, gt=0, le=1)
    """Share of the layers, counted from the output and rounded up; the upper half is 0.5, which is the default."""
    which: str | None = Field(default=None, pattern=r"^\s*\d+(\s*,\s*\d+)*\s*$")
    """Numbers of the layers from 0, counted from the input, such as "0,3"."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Layers:
        if sum(value is not None for value in (self.last, self.upper, self.which)) > 1:
            raise ValueError("give one of last, upper and which")
        return self

    def select(self, model: nn.Module, shared: Parameters, preparation: Preparation) -> nn.Module:
        """Freeze all but the layers."""
        del preparation
        stacks = {path: stack for path, stack in find_stacks(model).items() if _has(shared, path)}
        if not stacks:
            raise UserInputError(
                f"--train {self.name}: {type(model).__name__} has no stack of like layers, so its layers cannot be "
                "told apart; choose another way"
            )
        chosen = [f"{path}.{i}." for path, stack in stacks.items() for i in self._chosen(path, len(stack))]
        trained = {name for name in shared if name.startswith(tuple(chosen))}
        return self._keep(model, shared, trained, missing=f"has nothing to train in {', '.join(chosen)}")

    def _chosen(self, path: str, num_layers: int) -> list[int]:
        if self.which is not None:
            chosen = sorted({int(number) for number in self.which.split(",")})
        else:
            upper = 0.5 if self.upper is None else self.upper
            count = self.last or math.ceil(num_layers * upper - 1e-9)  # 0.1 of 10 layers is 1
            chosen = list(range(num_layers - count, num_layers))
        if not 0 <= chosen[0] <= chosen[-1] < num_layers:
            raise UserInputError(
                f"--train {self.line()}: {path or 'the model'} has {num_layers} layers, numbered 0 to {num_layers - 1}"
            )
        return chosen


def find_stacks(model: nn.Module) -> dict[str, nn.ModuleList | nn.Sequential]:
    """Return the stacks of like layers by their paths, in the model's order: those that lie in no other."""
    found: dict[str, nn.ModuleList | nn.Sequential] = {}
    for path, module in model.named_modules():
        inside = any(not outer or path.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList | nn.Sequential) and not inside and _are_layers(list(module)):
            found[path] = module
    return found


def _are_layers(modules: list[nn.Module]) -> bool:
    """Tell whether modules are layers: of one class, and each made of parts with weights."""
    made_of_parts = all(any(True for part in module.children() for _ in part.parameters()) for module in modules)
    return bool(modules) and len({type(module) for module in modules}) == 1 and made_of_parts


def _has(shared: Parameters, path: str) -> bool:
    return any(re.match(rf"{re.escape(path)}\.\d+\.", name) or not path for name in shared)
