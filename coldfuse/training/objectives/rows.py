"""Training examples, and what terms of an objective have to know of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from coldfuse.training.tasks.task import Feature

ROWS = "rows"
"""Name of what stands beside an example, and beside a batch of them."""


@dataclass(frozen=True, kw_only=True)
class FeaturesWithRows(Sequence[Feature]):
    """Features of examples, each with its own rows."""

    features: Sequence[Feature]
    """The features."""
    rows: Mapping[str, Tensor]
    """A row of each example, by the name of the term that asks for it."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.features)

    @overload
    def __getitem__(self, index: int) -> Feature: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Feature]: ...
    def __getitem__(self, index: int | slice) -> Feature | Sequence[Feature]:
        """Return an example with its rows, or those of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return {**self.features[index], ROWS: {name: rows[index] for name, rows in self.rows.items()}}


def stacked_rows(features: Sequence[Feature]) -> dict[str, dict[str, Tensor]]:
    """Return the rows of a batch's examples, to stand beside the model's arguments; nothing where there are none."""
    found: list[Mapping[str, Tensor]] = [feature[ROWS] for feature in features if ROWS in feature]  # type: ignore[misc]
    return {ROWS: {name: torch.stack([rows[name] for rows in found]) for name in found[0]}} if found else {}
