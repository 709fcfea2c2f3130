from __future__ import annotations

import pytest

from coldfuse.engine.work import Watch


def test_processes_that_compute_or_read_have_moved() -> None:
    for done in ((11.0, 0.0), (10.0, 5e6)):
        watch = Watch(0.0)
        watch.look({1: (10.0, 0.0)}, 1.0)
        watch.look({1: done}, 2.0)
        assert watch.moved_at_s == 2.0, done


@pytest.mark.parametrize("cpus", [1, 64])
def test_what_idle_processes_take_is_no_work_however_long_they_are_looked_at(cpus: int) -> None:
    watch = Watch(0.0)
    for second in range(600):
        watch.look(dict.fromkeys(range(cpus), (second * 0.03 / cpus, second * 100.0 / cpus)), float(second))
    assert watch.moved_at_s == 0.0


def test_slow_work_adds_up_between_looks() -> None:
    watch = Watch(0.0)
    for second in range(1, 100):
        watch.look({1: (0.1 * second, 0.0)}, float(second))
    assert watch.moved_at_s > 95


def test_a_process_that_is_new_counts_from_when_it_is_first_seen() -> None:
    watch = Watch(0.0)
    watch.look({1: (5.0, 1e9)}, 1.0)
    watch.look({1: (5.0, 1e9), 2: (50.0, 1e9)}, 2.0)
    assert watch.moved_at_s == 0.0
    watch.look({1: (5.0, 1e9), 2: (51.0, 1e9)}, 3.0)
    assert watch.moved_at_s == 3.0


def test_a_process_that_goes_takes_its_work_with_it() -> None:
    watch = Watch(0.0)
    watch.look({1: (5.0, 0.0), 2: (5.0, 0.0)}, 1.0)
    watch.look({2: (5.0, 0.0)}, 2.0)
    assert watch.moved_at_s == 0.0
