"""What an attack is: what it does to data, and to deltas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldfuse.data.dataset import TextDataset

Rows = NDArray[np.float32]
"""Whole deltas, one a row: all tensors one after the other in the order of their names."""


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What hostile contributors know when they make what they send."""

    benign_CN: Rows
    """Deltas of the benign contributors; there is at least one."""
    own_FN: Rows
    """What the hostile ones' own training made, one row for each of them."""
    seed: int = 0
    """Decides all that is random."""

    @property
    def num_hostile(self) -> int:
        """Number f of hostile contributors."""
        return len(self.own_FN)

    @property
    def num_contributors(self) -> int:
        """Number n of all contributors."""
        return len(self.benign_CN) + len(self.own_FN)

    def rng(self) -> np.random.Generator:
        """Return the generator of what is random."""
        return np.random.default_rng(self.seed)

    def all_send(self, row_N: NDArray[np.floating]) -> Rows:
        """Return the same delta for each hostile contributor."""
        return np.repeat(row_N.astype(np.float32)[None], self.num_hostile, axis=0)


Craft = Callable[[Knowledge], Rows]
"""craft(known): return what the hostile contributors send, one row each."""

Poison = Callable[[TextDataset, int], TextDataset]
"""poison(data, seed): return what somebody trains on instead of its data."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One way to harm a round."""

    summary: str
    """What hostile contributors send, in a few words."""
    craft: Craft | None = None
    """What they make of the deltas; None: they send what their training made."""
    poison: Poison | None = None
    """What they make of their data; None: they train on it as it is."""
    is_backdoor: bool = False
    """True where the aim is another answer to texts with the trigger, rather than wrong answers to all."""
    poisons_everybody: bool = False
    """True where the poison lies in every contributor's data, and nobody is hostile."""
