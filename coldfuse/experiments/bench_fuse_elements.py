"""Elements as they lie in files, for compiled loops: float32, or bfloat16 as uint16."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from numba.core import types
from numba.extending import overload


def fast(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop; sums may be made in any order."""
    return cast(Callable[..., Any], numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")(function))


def load(element: Any) -> Any:
    """Return an element in single precision."""
    raise NotImplementedError(f"{element} is for compiled code")


def store(value: Any, like: Any) -> Any:
    """Return a number as an element like the other: rounded to nearest, ties to even."""
    raise NotImplementedError(f"{value}, {like}: for compiled code")


@overload(load, inline="always")
def _load_of(element: Any) -> Callable[..., Any]:
    def single(element: Any) -> Any:
        return element

    def bfloat16(element: Any) -> Any:
        return np.uint32(np.uint32(element) << np.uint32(16)).view(np.float32)

    return single if isinstance(element, types.Float) else bfloat16


@overload(store, inline="always")
def _store_of(value: Any, like: Any) -> Callable[..., Any]:  # noqa: ARG001  # numba matches arguments by name
    def single(value: Any, like: Any) -> Any:  # noqa: ARG001
        return value

    def bfloat16(value: Any, like: Any) -> Any:  # noqa: ARG001
        bits = np.float32(value).view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + even) >> np.uint32(16))

    return single if isinstance(like, types.Float) else bfloat16
