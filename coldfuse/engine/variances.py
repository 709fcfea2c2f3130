"""Running variances of a base: a delta that makes one negative is refused alone, as a fusion of it fails for all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from coldfuse.adapters.changes import Stored, read_stored
from coldfuse.core.dtypes import Floats
from coldfuse.fusion.apply import ROUNDED, is_variance_name
from coldfuse.tensors.checkpoint import Checkpoint

Variances = Mapping[str, Stored]
"""Where the running variances of a base lie, by name."""


def find_variances(base: Checkpoint) -> dict[str, Stored]:
    """Find the running variances among a base's tensors."""
    return {
        name: Stored(file.file, entry)
        for name, (file, entry) in base.places.items()
        if is_variance_name(name) and entry.spec.is_fused
    }


def makes_negative(variance: Stored, first: int, delta_N: Floats) -> bool:
    """Tell whether some elements of a delta make a variance negative, by more than an encoding may have rounded.

    Args:
        variance: Where the base's lies.
        first: Index of the first element.
        delta_N: The elements.
    """
    base_N = read_stored(variance, first, len(delta_N))
    return bool((base_N + delta_N < -ROUNDED * np.abs(delta_N)).any())
