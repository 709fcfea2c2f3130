"""What is said until a gateway has answered for the first time, and after that."""

import threading

import pytest

from coldfuse.cli import contact
from coldfuse.cli.contact import Contact
from coldfuse.errors import TransportError


class SlowGateway:
    """Answers once somebody has been told that it is tried."""

    def __init__(self) -> None:
        self.is_said = threading.Event()

    def status(self) -> None:
        assert self.is_said.wait(30)


def test_who_waits_for_a_first_answer_hears_what_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "_FIRST_WORD_S", 0.01)
    gateway, said = SlowGateway(), []

    def say(phase: str, message: str) -> None:
        said.append((phase, message))
        gateway.is_said.set()

    made = Contact("host:1", "2m", say)
    with made.made():
        gateway.status()
    made.trouble(TransportError("host:1: cannot be reached"))
    assert said == [
        ("connecting", "trying host:1 for 2m at most"),
        ("away", "host:1: cannot be reached; trying again"),
    ]


def test_a_quick_answer_needs_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[threading.Timer] = []
    start = threading.Timer.start
    monkeypatch.setattr(threading.Timer, "start", lambda timer: (timers.append(timer), start(timer))[1])
    gateway, said = SlowGateway(), []
    gateway.is_said.set()
    made = Contact("host:1", "2m", lambda *words: said.append(words))
    made.trouble(TransportError("the first try failed"))
    with made.made():
        gateway.status()
    [timer] = timers
    timer.join(30)  # which a cancelled one ends at once, without a word
    assert timer.finished.is_set()
    assert said == []
