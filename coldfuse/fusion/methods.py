"""The table of fusion methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coldfuse.core.contribution import Admission
from coldfuse.errors import UserInputError
from coldfuse.fusion.block import Block, Float64
from coldfuse.fusion.mean import mean


@dataclass(frozen=True, kw_only=True)
class Method:
    """A rule that fuses, and how it weighs."""

    fuse: Callable[[Block], Float64]
    """The fused delta of one block."""
    weigh: Callable[[Admission], float]
    """w_i of a contribution, before normalisation."""
    summary: str
    """One line for help texts."""


METHODS: dict[str, Method] = {
    "mean": Method(fuse=mean, weigh=lambda _: 1.0, summary="every contribution counts the same (ColD Fusion)"),
    "weighted-mean": Method(
        fuse=mean, weigh=lambda a: float(a.num_examples), summary="a contribution counts by its number of examples"
    ),
}


def find_method(name: str) -> Method:
    """Look a method up. Raises `UserInputError` with the known names."""
    try:
        return METHODS[name]
    except KeyError:
        raise UserInputError(f"fusion method {name!r} is not known; known are {', '.join(METHODS)}") from None
