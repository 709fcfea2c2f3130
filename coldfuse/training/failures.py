"""What a model raises in its own code, as one line that says which model, what failed, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from coldfuse.errors import ColdfuseError, UserInputError
from coldfuse.naming.building import LIBRARY_FAILURES

_MAX_CHARS = 200


class ModelFailedError(UserInputError):
    """A model's own code failed on texts that coldfuse gave it."""


@contextmanager
def failures_of(body: nn.Module, doing: str) -> Iterator[None]:
    """Turn what the body's code raises into one line.

    Args:
        body: The model that runs.
        doing: What it did, for the message.

    Raises:
        ModelFailedError: The model's code raised something.
    """
    try:
        yield
    except LIBRARY_FAILURES as error:
        if isinstance(error, ColdfuseError):  # said in words already
            raise
        raise ModelFailedError(
            f"{type(body).__name__} failed {doing}: {first_line(error)}; {_advice(error)}"
        ) from error


@contextmanager
def failures_of_the_trainer() -> Iterator[None]:
    """Turn what the Trainer, or a tracker that it reports to, raises into one line."""
    try:
        yield
    except LIBRARY_FAILURES as error:
        if isinstance(error, ColdfuseError):  # said in words already
            raise
        raise UserInputError(f"the Trainer failed: {first_line(error)}; see what --train-args says") from error


def first_line(error: BaseException) -> str:
    """Return an error's kind and the first line of what it says, cut where it gets long."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}{f': {line[:_MAX_CHARS]}' if line else ''}"


def _advice(error: Exception) -> str:
    text = str(error).lower()
    if "out of memory" in text or "can't allocate memory" in text:
        return "the memory is too small for this model: choose fewer tokens at once, or shorter texts"
    if "index out of range" in text or "device-side assert" in text:
        return "a token or a position lies outside of its embeddings: see that the tokenizer belongs to the model"
    return "see that the folder holds one model with its own tokenizer, or take another base"
