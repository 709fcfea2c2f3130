"""Tests of a formula on a few examples of a space, always the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = (1, 2, 7, 64, 99, 100, 600)
"""Numbers of elements: the least, some that no power of two divides, and more than a kernel's tile."""
SCALES = (1.0, 1e-6, 1e-42)
"""Sizes of deltas: as large as weights, as fine-tuning makes them, and subnormal in float32."""
SHAPES = ((5, 3), (3, 5), (6, 6), (2, 7))
"""Matrices: tall, wide and square."""


def examples(most: int = 10, /, **axes: Sequence[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call a test with values from each of the axes, in so many combinations at most."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        strategies = {name: st.sampled_from(values) for name, values in axes.items()}
        return settings(max_examples=most, derandomize=True, deadline=None, database=None)(given(**strategies)(test))

    return decorate
