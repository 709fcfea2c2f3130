"""What a simulation found, as values that go into JSON as they are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coldfuse.simulation.audit import Audit
from coldfuse.simulation.servers import Happening
from coldfuse.simulation.visit import End, Outcome

_NUM_SAMPLES = 60
"""Samples of memory that a report keeps of a process."""

Sample = tuple[float, float]
"""Seconds since the beginning, and MiB."""


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One round."""

    number: int
    ended: str
    """published, abandoned, or the last thing that happened."""
    closed_after_s: float | None
    """Seconds from opening to closing; None where it was not closed."""
    in_time: bool
    """True where it was closed or abandoned by its deadline, and what judging its last contributions takes."""
    released_after_s: float | None
    """Seconds from closing to the release."""
    admitted: int
    rejected: int
    reason: str
    """Why it was closed or abandoned."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory of one process tree over time."""

    name: str
    start_mib: float
    peak_mib: float
    end_mib: float
    samples: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a simulation found."""

    contributors: int
    hostile: int
    late: int
    rounds: tuple[RoundReport, ...]
    ends: Mapping[str, int]
    """How visits ended, by kind."""
    audit: Audit
    acknowledged_per_s: float
    """Acknowledged contributions over the time from the first connection of a round to its last acknowledgement on
    time, in the round where that is highest."""
    commit_p50_ms: float
    """Median time from sending the commit to its acknowledgement."""
    commit_p99_ms: float
    visit_p50_ms: float
    """The same from connecting to the acknowledgement, upload included."""
    visit_p99_ms: float
    repeated: Mapping[str, int]
    """Refusals and failures that clients repeated, by kind."""
    gateway_operations: float
    """Store operations of all gateways, a contribution that was acknowledged."""
    aggregator_operations: float
    """Store operations of the aggregator, a contribution that was acknowledged; without those of Ray's tasks."""
    operations: Mapping[str, Mapping[str, int]]
    """Store operations of the gateways and of the aggregator, by what they do and where: `get objects`."""
    gateway_cpu_ms: float
    """Processor time of all gateways since the crowd came, a contribution that was acknowledged."""
    aggregator_cpu_ms: float
    """The same of the aggregator, with Ray."""
    files: float
    """Objects in the store, a contribution that was acknowledged, without those that were there before."""
    memory: tuple[Memory, ...]
    took_s: float
    cpus: int
    load_before: float
    """System's load average of the last minute before it began: how much else the machine had to do."""

    @property
    def is_whole(self) -> bool:
        """True where no promise was broken."""
        return self.audit.is_whole and all(found.in_time for found in self.rounds)


def percentile_ms(values_s: Sequence[float], share: float) -> float:
    """Return the value below which this share of them lies, in milliseconds; 0 where there is none.

    >>> percentile_ms([0.001, 0.002, 0.003], 0.5)
    2.0
    """
    ordered = sorted(values_s)
    return round(1000 * ordered[min(math.ceil(share * len(ordered)), len(ordered)) - 1], 1) if ordered else 0.0


def rate_of(outcomes: Sequence[Outcome], happenings: Sequence[Happening]) -> float:
    """Return acknowledged contributions a second of the fastest round, without those that came after it was closed."""
    rates = []
    for number in {outcome.round for outcome in outcomes}:
        closed_s = _when(happenings, number, "closed", "abandoned") or math.inf
        good = [o for o in outcomes if o.round == number and o.end is End.ACKNOWLEDGED and o.ended_s <= closed_s]
        if len(good) > 1:
            rates.append(len(good) / (max(o.ended_s for o in good) - min(o.began_s for o in good)))
    return round(max(rates, default=0.0), 1)


def rounds_of(happenings: Sequence[Happening], *, deadline_s: float, slack_s: float) -> tuple[RoundReport, ...]:
    """Say how each round went.

    Args:
        happenings: All that the aggregator wrote.
        deadline_s: Seconds that a round may take.
        slack_s: Seconds beyond the deadline that still count as in time: the aggregator looks now and then, and judges
            what has come before it closes.
    """
    found = []
    for number in sorted({h.round for h in happenings if h.kind == "opened"}):
        mine = [h for h in happenings if h.round == number]
        opened_s = next(h.at_s for h in mine if h.kind == "opened")
        closed_s, out_s = _when(mine, number, "closed"), _when(mine, number, "published")
        ended_s = closed_s or _when(mine, number, "abandoned")
        kinds = [h.kind for h in mine]
        ended = next((kind for kind in ("published", "abandoned") if kind in kinds), kinds[-1])
        counts: Counter[str] = Counter()
        for happening in mine:
            counts[happening.kind] += happening.count
        found.append(RoundReport(
            number=number, ended=ended, closed_after_s=closed_s and round(closed_s - opened_s, 2),
            in_time=ended_s is not None and ended_s - opened_s <= deadline_s + slack_s,
            released_after_s=out_s and closed_s and round(out_s - closed_s, 2),
            admitted=counts["admitted"], rejected=counts["rejected"],
            reason=next((h.reason for h in mine if h.kind in ("closed", "abandoned")), ""),
        ))  # fmt: skip
    return tuple(found)


def thinned(name: str, samples: Sequence[Sample]) -> Memory:
    """Return a process's memory, with so many samples as a report can hold."""
    step = max(len(samples) // _NUM_SAMPLES, 1)
    sizes = [mib for _, mib in samples] or [0.0]
    return Memory(
        name=name, start_mib=round(sizes[0], 1), peak_mib=round(max(sizes), 1), end_mib=round(sizes[-1], 1),
        samples=tuple((round(at_s, 1), round(mib, 1)) for at_s, mib in samples[::step]),
    )  # fmt: skip


def _when(happenings: Sequence[Happening], number: int, *kinds: str) -> float | None:
    return next((h.at_s for h in happenings if h.round == number and h.kind in kinds), None)
