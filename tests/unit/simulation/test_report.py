"""What a report says of a run."""

from __future__ import annotations

from coldfuse.simulation.report import percentile_ms, rate_of, rounds_of, thinned
from coldfuse.simulation.servers import Happening
from coldfuse.simulation.visit import End, Outcome


def happening(number, kind, at_s, count=0):
    return Happening(at_s=at_s, round=number, kind=kind, count=count, reason=f"because {kind}")


ROUND = [
    happening(1, "opened", 100.0), happening(1, "admitted", 101.0, 3), happening(1, "rejected", 102.0, 1),
    happening(1, "admitted", 103.0, 2), happening(1, "closed", 110.0), happening(1, "fused", 111.0),
    happening(1, "published", 112.0), happening(2, "opened", 112.0),
]  # fmt: skip


def outcome(end, began_s, ended_s, number=1):
    return Outcome(
        contributor=0, round=number, end=end, contribution="", began_s=began_s, ended_s=ended_s, commit_s=0.1,
        sent_bytes=0,
    )  # fmt: skip


def test_a_round_says_how_it_went():
    first, second = rounds_of(ROUND, deadline_s=8.0, slack_s=3.0)
    assert (first.ended, first.closed_after_s, first.released_after_s) == ("published", 10.0, 2.0)
    assert (first.admitted, first.rejected, first.reason) == (5, 1, "because closed")
    assert first.in_time
    assert (second.ended, second.in_time, second.closed_after_s) == ("opened", False, None)


def test_a_round_that_closes_beyond_its_deadline_is_not_in_time():
    assert not rounds_of(ROUND, deadline_s=8.0, slack_s=1.0)[0].in_time


def test_the_rate_counts_what_was_acknowledged_before_the_round_closed():
    good = [outcome(End.ACKNOWLEDGED, 100.0 + n, 101.0 + n) for n in range(4)]
    others = [outcome(End.ACKNOWLEDGED, 120.0, 121.0), outcome(End.CLOSED, 100.0, 109.0)]
    assert rate_of([*good, *others], ROUND) == 1.0
    assert rate_of([], ROUND) == 0.0


def test_percentiles_are_values_that_came():
    assert percentile_ms([n / 1000 for n in range(1, 101)], 0.99) == 99.0
    assert percentile_ms([], 0.5) == 0.0


def test_memory_is_thinned_to_what_a_report_holds():
    memory = thinned("gateway 1", [(float(n), float(n % 50)) for n in range(1000)])
    assert (memory.start_mib, memory.peak_mib, memory.end_mib) == (0.0, 49.0, 49.0)
    assert len(memory.samples) <= 70
    assert thinned("gone", []).peak_mib == 0.0
