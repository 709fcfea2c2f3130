from __future__ import annotations

import threading

from coldfuse.aggregator.watchdog import Watchdog


def test_without_a_sign_for_its_patience_nothing_moves() -> None:
    watchdog = Watchdog(patience_s=0.0)
    assert not watchdog.moves()
    watchdog = Watchdog(patience_s=60.0)
    assert watchdog.moves()


def test_whoever_is_silent_for_twice_the_patience_is_acted_upon_once() -> None:
    acted = threading.Event()
    silent_s: list[float] = []

    def act(quiet_s: float) -> None:
        silent_s.append(quiet_s)
        acted.set()

    over = Watchdog(patience_s=0.05).guard(act)
    assert acted.wait(30)
    over.set()
    assert silent_s[0] > 0.1
    assert len(silent_s) == 1


def test_who_gives_signs_is_left_alone() -> None:
    watchdog, acted = Watchdog(patience_s=0.2), threading.Event()
    over = watchdog.guard(lambda _: acted.set())
    for _ in range(40):
        watchdog.sign()
        assert not acted.wait(0.02)
    over.set()
