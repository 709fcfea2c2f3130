"""Rounds whose leaders have clocks hours apart, and rounds that somebody floods: time is a number that tests set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tiny_rounds import contribute, make_changes, make_contribution, make_federation, make_model, receive

from coldfuse.aggregator.model import open_base
from coldfuse.aggregator.round import Round, advance
from coldfuse.cli.closing import NEW_FEDERATION
from coldfuse.core.contribution import ContributionManifest
from coldfuse.core.round import Admitted, LeaderEvent
from coldfuse.core.screening_rules import ScreeningRules
from coldfuse.engine.execution import ThreadExecutor
from coldfuse.errors import RoundClosedError
from coldfuse.gateway import StoreGateway
from coldfuse.gateway.rounds import Rounds, describe_round
from coldfuse.registry.federation import Federation
from coldfuse.registry.round_clock import RoundClock

MODEL = make_model()
HOURS_5 = 5 * 3600.0
BAD = {"scale": np.float32(np.nan).reshape(())}


@dataclass
class Time:
    """The one true time."""

    now_s: float = 0.0


@dataclass
class Leader:
    """An aggregator that leads for as long as somebody calls it, on a machine with clocks of its own."""

    federation: Federation
    time: Time
    is_ahead_s: float = 0.0
    """By how much its wall clock is wrong."""
    booted_s: float = 1000.0
    """What its monotonic clock shows when time begins."""
    clocks: dict[int, RoundClock] = field(default_factory=dict)

    def look(self, number: int | None = None) -> list[LeaderEvent]:
        """Do what there is to be done in a round now; the current one by default."""
        number = number or self.federation.current_round()
        clock = self.clocks.setdefault(number, RoundClock(lambda: self.booted_s + self.time.now_s))
        round_ = Round(
            federation=self.federation, journal=self.federation.journal(number),
            base=open_base(self.federation, self.federation.latest()), executor=ThreadExecutor(1),
            now_s=lambda: 1.8e9 + self.time.now_s + self.is_ahead_s, clock=clock,
        )  # fmt: skip
        events: list[LeaderEvent] = []
        while new := advance(round_):
            events += new
        return events


def send(federation: Federation, *names: str, at_s: float = 0.0) -> None:
    for name in names:
        manifest = make_contribution(federation, name, make_changes(MODEL, ord(name[0])))
        receive(federation, manifest, at_s=at_s)


def names_of(events: list[LeaderEvent]) -> list[str]:
    return [event.event for event in events]


def test_a_standby_hours_ahead_ends_no_round_early(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, deadline_s=600.0), Time()
    first, standby = Leader(federation, time), Leader(federation, time, is_ahead_s=HOURS_5, booted_s=9e6)
    first.look()
    send(federation, "ada")
    assert names_of(first.look()) == ["admitted"]
    time.now_s = 60.0
    assert "abandoned" not in names_of(standby.look())
    send(federation, "ben")
    assert names_of(standby.look()) == ["admitted", "closed", "fused", "published"]


@pytest.mark.parametrize("is_ahead_s", [HOURS_5, -HOURS_5])
def test_a_round_opened_by_a_wrong_clock_has_the_same_deadline(tmp_path: Path, is_ahead_s: float) -> None:
    federation, time = make_federation(tmp_path, MODEL, deadline_s=600.0), Time()
    opener, other = Leader(federation, time, is_ahead_s=is_ahead_s), Leader(federation, time, booted_s=0.0)
    opener.look()
    send(federation, "ada")
    opener.look()
    for time.now_s in (100.0, 200.0, 300.0):
        other.look()  # it took over without a mark beyond the first: the first 100 s are forgotten
    time.now_s = 699.0
    assert "abandoned" not in names_of(other.look())
    time.now_s = 701.0
    assert names_of(other.look()) == ["abandoned"]


def test_a_round_outlives_its_deadline_by_a_twentieth_a_takeover_at_most(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, deadline_s=600.0), Time()
    leader, takeovers, ended_s = Leader(federation, time), 0, None
    leader.look()
    send(federation, "ada")
    leader.look()
    while ended_s is None:
        time.now_s += 1.0
        if time.now_s % 100 == 59:  # between two marks
            leader, takeovers = Leader(federation, time, booted_s=time.now_s * 1e3, is_ahead_s=-HOURS_5), takeovers + 1
        if "abandoned" in names_of(leader.look(1)):
            ended_s = time.now_s
    assert takeovers >= 6
    assert 600.0 <= ended_s <= 600.0 + takeovers * 31.0
    state = federation.journal(1).state()
    assert state.marked_s <= 600.0
    marks = [key for key in federation.store.list("rounds/00001/journal/").keys if key.endswith("-admitted")]
    assert len(marks) <= 1 + 20


def test_a_round_that_waits_for_anybody_at_all_writes_nothing(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, deadline_s=10.0), Time()
    leader = Leader(federation, time)
    leader.look()
    for time.now_s in range(0, 10_000, 100):
        assert leader.look() == []


def test_a_gateway_counts_what_is_left_by_its_own_clock_and_the_journal_and_by_no_date(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, deadline_s=600.0), Time()
    leader = Leader(federation, time, is_ahead_s=HOURS_5)
    leader.look()
    send(federation, "ada")
    leader.look()
    time.now_s = 450.0
    leader.look()
    rounds = Rounds(federation)  # a gateway that has just started
    status = describe_round(federation.settings.rules, rounds.standing())
    assert status.left_s == pytest.approx(150.0, abs=5.0)
    assert status.waits_for in {f"1 of 2 contributions, {left}" for left in ("2m left", "150s left")}


def test_what_came_in_time_is_screened_by_who_takes_over_after_the_deadline(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, deadline_s=60.0), Time()
    leader = Leader(federation, time)
    leader.look()
    send(federation, "ada")
    leader.look()
    time.now_s = 58.0
    leader.look()  # a mark
    send(federation, "ben", at_s=1e12)  # by the clock of a gateway that is far ahead
    time.now_s = 500.0
    assert names_of(Leader(federation, time).look()) == ["admitted", "closed", "fused", "published"]


def test_what_comes_between_two_looks_is_screened_although_the_deadline_lies_there_too(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, deadline_s=60.0), Time()
    leader = Leader(federation, time)
    leader.look()
    send(federation, "ada")
    time.now_s = 59.0
    leader.look()
    send(federation, "ben")
    time.now_s = 70.0
    assert names_of(leader.look()) == ["admitted", "closed", "fused", "published"]


def test_more_than_one_look_can_screen_is_screened_before_a_round_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldfuse.aggregator.judging.MAX_VERDICTS", 1)
    federation, time = make_federation(tmp_path, MODEL, quorum=3, deadline_s=60.0), Time()
    leader = Leader(federation, time)
    leader.look()
    send(federation, "ada")
    leader.look()
    send(federation, "ben", "cy", "dee")
    time.now_s = 61.0
    assert names_of(leader.look()) == ["admitted", "admitted", "closed", "rejected", "fused", "published"]


def test_garbage_without_end_keeps_no_round_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldfuse.aggregator.judging.MAX_VERDICTS", 3)
    federation, time = make_federation(tmp_path, MODEL, deadline_s=20.0), Time()
    leader, looks = Leader(federation, time), 0
    leader.look()
    send(federation, "ada")
    events: list[str] = []
    while "abandoned" not in events:
        time.now_s += 2.0
        for name in ("eve", "mal"):  # always something that could make the quorum
            contribute(federation, f"{name}{looks}", BAD)
        events += names_of(leader.look(1))
        looks += 1
        assert looks < 20
    state = federation.journal(1).state()
    assert set(state.received) == set(state.admitted) | set(state.rejected)
    assert [r.is_late for r in state.rejected.values()].count(True) <= 2


@dataclass
class Honest:
    """A contributor that takes three seconds to train, and commits through a gateway."""

    federation: Federation
    train_s: float = 3.0
    done_s: float | None = None
    manifest: ContributionManifest | None = None
    after: int = 0
    """The latest release when it sent: the next one says what became of it."""
    late: int = 0
    sent: int = 0

    def act(self, gateway: StoreGateway, now_s: float) -> None:
        """Begin to train on the latest release, or commit what is done; wait while its contribution waits."""
        latest = self.federation.latest()
        if self.manifest is None:
            if self.federation.current_round() == 1 and self.federation.journal(1).head() is None:
                return
            self.manifest = make_contribution(self.federation, "honest", make_changes(MODEL, 7))
            self.done_s = now_s + self.train_s
        if self.done_s is not None and now_s >= self.done_s:
            self.done_s = None
            number = self.federation.current_round()
            self.late += latest.release != self.manifest.base_release
            self.after = latest.release
            try:
                gateway.commit(self.manifest.model_copy(update={"round": number}))
                self.sent += 1
            except RoundClosedError:
                self.manifest = None
        elif self.done_s is None and latest.release != self.after:
            self.manifest = None


def flood(federation: Federation, *, for_s: float, train_s: float) -> tuple[Honest, int]:
    """Have one client under two names send at once to every round; return the honest one, and the last release."""
    time, honest = Time(), Honest(federation, train_s=train_s)
    leader, flooded = Leader(federation, time), set()
    with StoreGateway(federation) as gateway:
        while time.now_s < for_s:
            number = federation.current_round()
            leader.look(number)
            if number not in flooded and federation.journal(number).head() is not None:
                flooded.add(number)
                send(federation, "eve-1", "eve-2")
            honest.act(gateway, time.now_s)
            leader.look(number)
            time.now_s += 0.5
    return honest, federation.latest().release


def fused_from(federation: Federation, name: str) -> int:
    releases = range(1, federation.latest().release + 1)
    return sum(name in {c.contributor for c in federation.release(number).contributions} for number in releases)


def test_at_once_and_dropping_an_honest_node_is_always_late_under_a_flood(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, screening=ScreeningRules.off())  # the rules of before
    honest, releases = flood(federation, for_s=12.0, train_s=3.0)
    assert releases >= 20
    assert (honest.sent, honest.late) == (0, 3)
    assert fused_from(federation, "honest") == 0


def test_by_the_rules_of_a_new_federation_a_flood_makes_no_round_faster_than_honest_nodes_train(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, MODEL, **NEW_FEDERATION)
    honest, releases = flood(federation, for_s=40.0, train_s=3.0)
    assert releases == 3
    assert (honest.late, fused_from(federation, "honest")) == (0, releases)


def test_who_trains_for_longer_than_the_shortest_round_is_waited_for_once_it_is_known(tmp_path: Path) -> None:
    rules = NEW_FEDERATION | {"grace_s": 2.0, "deadline_s": 900.0}
    federation = make_federation(tmp_path, MODEL, screening=ScreeningRules.off(), **rules)
    honest, releases = flood(federation, for_s=60.0, train_s=9.0)
    first = next(
        c for n in range(1, releases + 1) for c in federation.release(n).contributions if c.contributor == "honest"
    )
    assert first.base_release == 0  # at first it is late, and counts less
    assert first.staleness_weight == 0.5  # three rounds had ended meanwhile
    assert honest.late == 1
    assert honest.sent >= 5
    assert all("honest" in {c.contributor for c in federation.release(n).contributions} for n in range(6, releases + 1))


def test_a_status_says_who_is_waited_for(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, **NEW_FEDERATION), Time()
    leader = Leader(federation, time)
    leader.look()
    send(federation, "ada", "ben", "cy")
    for time.now_s in (6.0, 11.0):
        leader.look()
    leader.look(2)
    send(federation, "ada", "ben")
    leader.look(2)
    status = describe_round(federation.settings.rules, Rounds(federation).standing())
    assert status.waits_for == (
        "quorum reached: 2 of 2 contributions, 10s left of the grace, 1 of 3 active have not come"
    )
    assert (status.num_active, status.num_missing) == (3, 1)


def test_past_rounds_travel_in_the_opening_and_the_opening_does_not_grow(tmp_path: Path) -> None:
    federation, time = make_federation(tmp_path, MODEL, close="grace", quorum=1), Time()
    leader = Leader(federation, time)
    for number in range(1, 8):
        leader.look(number)
        time.now_s += 4.0
        leader.look(number)
        send(federation, "ada")
        time.now_s += 1.0
        for _ in range(3):
            leader.look(number)
            time.now_s += 2.0
    opened = federation.journal(7).state().opened
    assert opened is not None
    assert [(one.base_release, one.last_s) for one in opened.past][:2] == [(5, 5.0), (4, 5.0)]
    assert isinstance(leader.look(), list)
    assert not [event for event in leader.look() if isinstance(event, Admitted)]
