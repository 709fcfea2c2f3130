from __future__ import annotations

from coldfuse.processes import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, Restarts


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_first_start_again_is_at_once_and_later_ones_wait_longer_and_longer() -> None:
    restarts = Restarts(Clock())
    pauses = []
    for _ in range(12):
        restarts.started()
        pauses.append(restarts.ended())
    assert pauses[:4] == [0.0, FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_start_is_due_when_its_pause_is_over_and_not_before() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    for _ in range(2):
        restarts.started()
        restarts.ended()
    assert not restarts.is_due()
    clock.now_s += FIRST_PAUSE_S
    assert restarts.is_due()


def test_what_ran_well_for_a_while_is_started_at_once_again() -> None:
    clock = Clock()
    restarts = Restarts(clock)
    for _ in range(8):
        restarts.started()
        restarts.ended()
    restarts.started()
    clock.now_s += STEADY_S
    assert restarts.ended() == 0.0
    assert restarts.is_due()
