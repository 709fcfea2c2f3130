"""A federation under `coldfuse serve` whose processes are killed and stopped in the middle of rounds: nothing is lost.

A few cells of the matrix; `cd tests && python -m fault.kill_matrix FOLDER` plays all of them.
"""

from __future__ import annotations

from pathlib import Path

from fault.kill_matrix import Fault, run

FAULTS = ("raylet:STOP:closed", "gcs:KILL:opened", "aggregator:KILL:admitted")


def test_whoever_is_killed_or_stopped_every_round_ends_with_the_same_release(tmp_path: Path) -> None:
    outcomes = list(run(tmp_path, [Fault.parse(text) for text in FAULTS]))  # it checks releases and verdicts
    assert [str(outcome.fault) for outcome in outcomes] == list(FAULTS)
    assert all(len(outcome.struck) == 1 for outcome in outcomes)
    assert outcomes[-1].restarts == 1
