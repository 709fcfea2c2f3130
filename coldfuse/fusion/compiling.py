"""Compile loops over elements to machine code, where that pays.

Loading numba takes 0.3 s and more, as long as numpy takes to sum the deltas of a few hundred megabytes. So it is loaded
when the first kernel is called, and what numpy can do as well (`kernels`) asks `pays` before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, TypeVar

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)

LOADING_PAYS = 1 << 29
"""Number of elements over which numpy loses as much time as loading numba takes."""

_overloads: list[tuple[Function, Function]] = []
"""Functions that kernels call, and what chooses their code; numba has not been told of these yet."""
_importing = threading.Lock()
"""Two threads that import numba at once each find it half there: its modules import each other. Nothing is compiled
under this lock, so that it can be taken by a thread that compiles."""
_is_loaded = False
_done_by_numpy = 0
"""Number of elements that `pays` left to numpy."""


class Kernel:
    """A function that numba compiles when it is first called; kernels may call each other."""

    def __init__(self, function: Function) -> None:
        """Take the function as it is written."""
        update_wrapper(self, function)
        self._function = function
        self._dispatcher: Any = None

    def __call__(self, *args: Any) -> Any:
        """Call the machine code."""
        return (self._dispatcher or self._compiled())(*args)

    @property
    def _numba_type_(self) -> Any:
        """What numba takes the name for where another kernel calls it."""
        return self._compiled()._numba_type_

    def _compiled(self) -> Any:
        with _imported().core.compiler_lock.global_compiler_lock:
            if self._dispatcher is None:
                self._dispatcher = _njit(self._function)
            return self._dispatcher


class External:
    """A function of the C library that kernels may call."""

    def __init__(self, name: str, result: str, *arguments: str) -> None:
        """Take its name, and numba's names for the types of its result and arguments."""
        self._signature = name, result, arguments

    @property
    def _numba_type_(self) -> Any:
        types = _imported().core.types
        name, result, arguments = self._signature
        return types.ExternalFunction(name, getattr(types, result)(*(getattr(types, each) for each in arguments)))


def compiled(function: Function) -> Kernel:
    """Compile when first called (0.2 s), without the interpreter's lock; keep the code on disk where there is a place.

    Division by zero gives infinity, as in numpy: checking each would keep the processor from doing several at once.
    No `fastmath`: sums are made in the order that the source says, so that every machine gets the same bits.
    """
    return Kernel(function)


def chosen_by_type(choose: Function) -> Callable[[F], F]:
    """Let `choose(*types)` give a function's code, in numba's types of its arguments, wherever a kernel calls it.

    The code becomes a part of the kernel's loop. `choose` must name its arguments as the function does.
    """

    def decorate(function: F) -> F:
        _overloads.append((function, choose))
        if _is_loaded:
            _tell_numba()
        return function

    return decorate


def pays(num_elements: int) -> bool:
    """Say whether a kernel should do for so many elements what numpy could do, too.

    It should once numba is loaded, or once numpy has done so much that it would have been worth loading. So what is
    small never waits for numba, and what is large loses little.
    """
    global _done_by_numpy  # noqa: PLW0603  # a lost update of another thread does not matter
    if _is_loaded or _done_by_numpy > LOADING_PAYS:
        return True
    _done_by_numpy += num_elements
    return False


def is_loaded() -> bool:
    """Say whether a kernel can be called at once."""
    return _is_loaded


def load() -> Any:
    """Load numba, so that kernels need not; return it."""
    global _is_loaded  # noqa: PLW0603
    numba = _imported()
    with numba.core.compiler_lock.global_compiler_lock:
        _tell_numba()
    _is_loaded = True
    return numba


def _imported() -> Any:
    with _importing:
        import numba
        import numba.core.compiler_lock
        import numba.extending

        return numba


def _njit(function: Function) -> Any:
    numba = load()
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor a user's cache folder can be written
        return numba.njit(nogil=True, error_model="numpy")(function)


def _tell_numba() -> None:
    while _overloads:
        function, choose = _overloads.pop()
        _imported().extending.overload(function)(choose)
