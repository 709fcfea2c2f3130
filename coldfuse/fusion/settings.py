"""Numbers that differ from tensor to tensor, and from model to model: weights, densities and other parameters.

A setting is what people write, as in mergekit: one number, a gradient over the layers, rules by a part of the tensors'
names, or a table of tensors. What it is worth in a tensor follows from the tensor's name and its layer alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WEIGHT = "weight"
"""Name of the setting that is a model's weight w_i; all others are parameters of steps."""

OTHERS = "*"
"""Stands in a table for all tensors that it does not name."""

_EMBEDDINGS = ("embed", "wte", "wpe")
"""Parts of the names of tensors that come before the first layer."""

_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")


def is_embedding(tensor: str) -> bool:
    """Tell whether a tensor that is in no layer comes before the first one, by its name."""
    return any(word in tensor for word in _EMBEDDINGS)


@dataclass(frozen=True)
class Layer:
    """Which of the layers of its stack a tensor belongs to."""

    index: int
    count: int


@dataclass(frozen=True)
class Part:
    """Some consecutive layers, and perhaps what comes before the first layer or after the last one."""

    begin: int
    end: int
    """First layer, and the one after the last."""
    has_first: bool
    """True if embeddings are part of it."""
    has_last: bool
    """True if all else that is in no layer is part of it."""

    def has(self, tensor: str, layer: Layer | None) -> bool:
        """Tell whether a tensor is in this part."""
        if layer is not None:
            return self.begin <= layer.index < self.end
        return self.has_first if is_embedding(tensor) else self.has_last


@dataclass(frozen=True)
class Rule:
    """A number, or a gradient, for the tensors whose names have a part."""

    values: tuple[float, ...]
    """One number, or several that are spread evenly over the layers, with straight lines between them."""
    filter: str = ""
    """Part of the names of the tensors that it is for; "" for all."""
    part: Part | None = None
    """The layers that it is for, over which a gradient is spread; None for all."""

    def at(self, tensor: str, layer: Layer | None) -> float | None:
        """Return the number for a tensor; None if the rule is not for it.

        What is in no layer (embeddings, the last norm, heads) has a gradient's first number; a single layer the last.

        >>> [Rule((0.0, 0.5, 1.0)).at("h.mlp", Layer(index, 5)) for index in range(5)]
        [0.0, 0.25, 0.5, 0.75, 1.0]
        """
        if self.filter not in tensor or not (self.part is None or self.part.has(tensor, layer)):
            return None
        if layer is None:
            return self.values[0]
        begin, count = (self.part.begin, self.part.end - self.part.begin) if self.part else (0, layer.count)
        place = (layer.index - begin) / (count - 1) if count > 1 else 1.0
        scaled = place * (len(self.values) - 1)
        first = int(scaled)
        rest = scaled - first
        return (1 - rest) * self.values[first] + rest * self.values[first + 1] if rest else self.values[first]

    def unmatched(self, tensors: Iterable[str]) -> list[str]:
        """Return the filter, if none of these tensors has it."""
        return [] if any(self.filter in tensor for tensor in tensors) else [self.filter]


@dataclass(frozen=True)
class Table:
    """Numbers by a tensor's whole name; `*` stands for all others."""

    numbers: Mapping[str, float]

    def at(self, tensor: str, layer: Layer | None) -> float | None:  # noqa: ARG002 - a table needs no layer
        """Return the number for a tensor; None if the table has none."""
        return self.numbers.get(tensor, self.numbers.get(OTHERS))

    def unmatched(self, tensors: Iterable[str]) -> list[str]:
        """Return the names that none of these tensors has."""
        return sorted(self.numbers.keys() - {*tensors, OTHERS})


@dataclass(frozen=True)
class Setting:
    """What one name is worth in each tensor: what the first rule says that says anything."""

    rules: tuple[Rule | Table, ...]

    def at(self, tensor: str, layer: Layer | None) -> float | None:
        """Return the number for a tensor; None if nothing is said of it."""
        return next((value for rule in self.rules if (value := rule.at(tensor, layer)) is not None), None)

    def unmatched(self, tensors: Sequence[str]) -> list[str]:
        """Return the filters and the tables' names that none of these tensors has."""
        return [name for rule in self.rules for name in rule.unmatched(tensors)]


Settings = Mapping[str, Setting]
"""Settings by the names of what they set: `weight`, and parameters of a recipe's steps."""


def always(value: float) -> Setting:
    """Return a setting that is the same number everywhere.

    >>> always(0.5).at("h.0.mlp", Layer(0, 2))
    0.5
    """
    return Setting((Rule((value,)),))


def layers_of(tensors: Iterable[str]) -> dict[str, Layer | None]:
    """Find which layer each tensor belongs to: the first number in its name counts the layers of a stack.

    >>> found = layers_of(["wte.weight", "h.0.mlp.weight", "h.1.mlp.weight", "h.1.experts.7.weight"])
    >>> found["h.1.mlp.weight"], found["h.1.experts.7.weight"], found["wte.weight"]
    (Layer(index=1, count=2), Layer(index=1, count=2), None)
    """
    places: dict[str, tuple[str, int] | None] = {}
    counts: dict[str, int] = {}
    for tensor in tensors:
        match = _NUMBER.search(tensor)
        places[tensor] = None if match is None else (tensor[: match.start(1)], int(match[1]))
        if match is not None:
            stack = tensor[: match.start(1)]
            counts[stack] = max(counts.get(stack, 0), int(match[1]) + 1)
    return {name: None if place is None else Layer(place[1], counts[place[0]]) for name, place in places.items()}
