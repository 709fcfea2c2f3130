"""A gateway that is away ends no node that nobody has told to end."""

import threading

import pytest

from coldfuse.contributor import outliving
from coldfuse.contributor.outliving import outlive
from coldfuse.errors import (
    ContributionRejectedError,
    ExpiredError,
    NotAllowedError,
    ObjectNotFoundError,
    RollbackError,
    SignatureError,
    StorageError,
    TransportError,
    UnknownKeyError,
    UserInputError,
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outliving, "FIRST_WAIT_S", 0.0)


def failing(*outcomes: Exception | str):
    left = list(outcomes)

    def step() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return step


def test_it_tries_until_the_gateway_is_back_and_says_why_it_waits() -> None:
    said: list[str] = []
    step = failing(*[TransportError("away")] * 50, StorageError("the gateway's disk is full"), "done")
    assert outlive(step, threading.Event(), said.append) == "done"
    assert said == ["away"] * 50 + ["the gateway's disk is full"]


@pytest.mark.parametrize("kind", [ExpiredError, RollbackError, UnknownKeyError])
def test_what_is_old_or_not_signed_anew_yet_is_waited_for(kind: type[Exception]) -> None:
    assert outlive(failing(kind("old"), "done"), threading.Event(), lambda _: None) == "done"


@pytest.mark.parametrize(
    "kind", [ContributionRejectedError, ObjectNotFoundError, UserInputError, SignatureError, NotAllowedError]
)
def test_what_does_not_pass_is_raised_at_once(kind: type[Exception]) -> None:
    with pytest.raises(kind):
        outlive(failing(kind("no"), "done"), threading.Event(), lambda _: None)


def test_being_stopped_ends_the_waiting() -> None:
    stop = threading.Event()
    with pytest.raises(TransportError):
        outlive(failing(TransportError("away"), TransportError("away"), "done"), stop, lambda _: stop.set())
