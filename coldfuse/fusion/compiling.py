"""Compile a loop over elements to machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba

Kernel = Callable[..., Any]


def compiled(function: Kernel) -> Kernel:
    """Compile when first called (0.2 s), without the interpreter's lock; keep the code on disk where there is a place.

    Division by zero gives infinity, as in numpy: checking each would keep the processor from doing several at once.
    No `fastmath`: sums are made in the order that the source says, so that every machine gets the same bits.
    """
    try:
        return cast(Kernel, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
    except RuntimeError:  # neither the package's folder nor a user's cache folder can be written
        return cast(Kernel, numba.njit(nogil=True, error_model="numpy")(function))
