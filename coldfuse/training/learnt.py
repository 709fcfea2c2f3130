"""Texts that a node trains on, for what wants to see more of them than their tokens.

Shape letters: N examples, H features, K targets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldfuse.training.frozen import KnownTexts, Passing
from coldfuse.training.head import MAX_FITTING_EXAMPLES
from coldfuse.training.schedule import derive_seed


@dataclass(frozen=True, kw_only=True)
class LearntTexts:
    """Texts with what is to be said of each."""

    texts: KnownTexts
    """Texts, or pairs of texts."""
    targets: NDArray[np.float64]
    """Shape (N, K): 1 where a class or label is the text's, else 0; or the number to predict."""
    own: Callable[[Sequence[int]], Tensor]
    """own(rows): return the features that the model makes of some of them as it is now, without dropout."""
    passing: Passing
    """How texts pass through other bodies."""

    def features(self, folder: Path, digest: str) -> Tensor:
        """Return what another model's body makes of them, shape (N, H); see `Passing.features`."""
        return self.passing.features(folder, digest, self.texts)

    def rows(self) -> NDArray[np.int64]:
        """Return examples that a linear model is fitted to: all, or as many as a head is fitted to, drawn once."""
        generator = torch.Generator().manual_seed(derive_seed("learnt", len(self.targets)))
        chosen = torch.randperm(len(self.targets), generator=generator)[:MAX_FITTING_EXAMPLES]
        rows: NDArray[np.int64] = np.sort(chosen.numpy())
        return rows


def targets_of(labels: Sequence[int | float | Sequence[float]]) -> NDArray[np.float64]:
    """Return what is to be said of examples, shape (N, K): classes, which are whole numbers, one by one.

    >>> targets_of([2, 0, 2]).tolist(), targets_of([0.5, 1.0]).tolist(), targets_of([(0.0, 1.0)]).tolist()
    ([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]], [[0.5], [1.0]], [[0.0, 1.0]])
    """
    given = np.asarray(labels)
    if given.ndim == 1 and given.dtype.kind in "iu":
        return (given[:, None] == np.unique(given)[None, :]).astype(np.float64)
    return given.astype(np.float64).reshape(len(given), -1)
