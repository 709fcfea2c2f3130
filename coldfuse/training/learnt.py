"""Texts that a node trains on, for what wants to see more of them than their tokens.

Shape letters: N examples, H features, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldfuse.training.frozen import KnownTexts, Passing
from coldfuse.training.head import MAX_FITTING_EXAMPLES
from coldfuse.training.schedule import derive_seed

Label = int | float | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class LearntTexts:
    """Texts with what is to be said of each."""

    texts: KnownTexts
    """Texts, or pairs of texts."""
    labels: Sequence[Label]
    """Class, labels or number of each."""
    own: Callable[[Sequence[int]], Tensor]
    """own(rows): return the features that the model makes of some of them as it is now, without dropout."""
    passing: Passing
    """How texts pass through other bodies."""

    @cached_property
    def targets(self) -> NDArray[np.float64]:
        """What is to be said of each, shape (N, K); see `targets_of`."""
        return targets_of(self.labels)

    def features(self, folder: Path, digest: str) -> Tensor:
        """Return what another model's body makes of them, shape (N, H); see `Passing.features`."""
        return self.passing.features(folder, digest, self.texts)

    def rows(self) -> NDArray[np.int64]:
        """Return examples that a linear model is fitted to: all, or as many as a head is fitted to, drawn once."""
        generator = torch.Generator().manual_seed(derive_seed("learnt", len(self.labels)))
        chosen = torch.randperm(len(self.labels), generator=generator)[:MAX_FITTING_EXAMPLES]
        rows: NDArray[np.int64] = np.sort(chosen.numpy())
        return rows


def targets_of(labels: Sequence[Label]) -> NDArray[np.float64]:
    """Return what is to be said of examples, shape (N, K): classes, which are whole numbers, one by one.

    >>> targets_of([2, 0, 2]).tolist(), targets_of([0.5, 1.0]).tolist(), targets_of([(0.0, 1.0)]).tolist()
    ([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], [[0.5], [1.0]], [[0.0, 1.0]])
    """
    given = np.asarray(labels)
    is_class = given.ndim == 1 and given.dtype.kind in "iu"
    found = given[:, None] == np.unique(given)[None, :] if is_class else given.reshape(len(given), -1)
    targets: NDArray[np.float64] = found.astype(np.float64)
    return targets
