"""Outliving a gateway that is away: try again for as long as it takes, further and further apart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from coldfuse.errors import (
    DigestMismatchError,
    ExpiredError,
    RollbackError,
    StorageError,
    TransportError,
    UnknownKeyError,
)

T = TypeVar("T")

_PASSING = (TransportError, DigestMismatchError, ExpiredError, RollbackError, UnknownKeyError)

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 120.0
"""Bounds of the pauses between the tries, of which each lasts as long as the client is patient."""


def outlive(step: Callable[[], T], stop: threading.Event, on_trouble: Callable[[str], None]) -> T:
    """Return what the step returns, however long the gateway, or the store behind it, is out of reach meanwhile.

    The pauses have jitter: the nodes of a federation must not return all at once.

    Args:
        step: What is done, and done again.
        stop: Event that ends the waiting.
        on_trouble: Called with the reason before each pause.

    Raises:
        TransportError: The gateway was out of reach when the waiting was ended.
        StorageError: Its store was.
        DigestMismatchError: What it sent was damaged.
        TrustError: What it hands out was not the newest, or was signed by another key than today's. Nothing of it was
            believed; while keys are replaced, or an aggregator is away for long, that passes.
    """
    retrying = Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=lambda state: on_trouble(str(_error_of(state))),
        reraise=True,
    )
    return retrying(step)


def _may_pass(error: BaseException) -> bool:
    """Tell a gateway that is away, or whose store is, or whose bytes are damaged, from one that refuses something."""
    return isinstance(error, _PASSING) or type(error) is StorageError


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
