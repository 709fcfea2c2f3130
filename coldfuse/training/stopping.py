"""A run that is asked to stop while its start is fitted and scored: there is no step yet that would ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


class StoppedEarlyError(Exception):
    """The run was asked to stop before its first step; nothing is lost but what is done in passing."""


@contextmanager
def stoppable(part: nn.Module, stop: Callable[[], bool]) -> Iterator[None]:
    """Ask before each pass through a module, and raise `StoppedEarlyError` once the answer is True."""

    def ask(*_: object) -> None:
        if stop():
            raise StoppedEarlyError

    handle = part.register_forward_pre_hook(ask)
    try:
        yield
    finally:
        handle.remove()
