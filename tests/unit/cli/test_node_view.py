"""Which of a node's events are worth a line where nobody watches a bar."""

import json

import pytest
from commands import wait_until

from coldfuse.cli import node_view as node_view_module
from coldfuse.cli import pace
from coldfuse.cli.node_view import Lines, node_view
from coldfuse.cli.pace import EVERY_S, Pace
from coldfuse.contributor.events import NodeEvent
from coldfuse.core.closing import RoundFacts, decide
from coldfuse.core.federation import RoundRules


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def event(phase: str, message: str = "", **facts: float | None) -> NodeEvent:
    return NodeEvent(phase=phase, base_release=0, message=message, **facts)  # type: ignore[arg-type]


def times_said(clock: Clock, events: list[NodeEvent], *, every_s: float) -> list[float]:
    """Tell each event a while after the one before; return when a line was due."""
    lines, said = Lines(clock), []
    for one in events:
        if lines.is_due(one):
            said.append(clock.now_s)
        clock.now_s += every_s
    return said


def test_hours_of_training_give_a_line_now_and_then(clock: Clock) -> None:
    steps = [event("training", f"step {step}", done=step / 1000) for step in range(600)]
    said = times_said(clock, steps, every_s=1.0)
    assert said[:2] == [0.0, EVERY_S]
    assert 15 <= len(said) <= 21


def test_what_takes_long_without_a_word_is_said_again(clock: Clock) -> None:
    lines = Lines(clock)
    lines.is_due(event("training", "fitting a head", done=0.0))
    clock.now_s = EVERY_S - 1
    assert lines.overdue() is None
    clock.now_s = EVERY_S
    again = lines.overdue()
    assert again is not None
    assert again.message == "fitting a head"
    assert lines.overdue() is None
    lines.is_due(event("trained", "better"))
    clock.now_s = 10 * EVERY_S
    assert lines.overdue() is None


def test_a_beat_comes_while_nothing_else_does(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(node_view_module, "_BEAT_S", 0.001)
    monkeypatch.setattr(pace, "EVERY_S", 0.0)
    with node_view(as_json=False) as report:
        report(event("training", "fitting a head", done=0.0))
        wait_until(lambda: "still at it" in capsys.readouterr().out, "the line once more")


def test_an_epochs_score_is_said_at_once(clock: Clock) -> None:
    lines = Lines(clock)
    assert lines.is_due(event("training", "starting", done=0.0))
    assert not lines.is_due(event("training", "epoch 1, step 5", done=0.5))
    assert lines.is_due(event("training", "epoch 1, step 5, accuracy 90 %", done=0.5, metric="accuracy", value=0.9))


def test_what_is_waited_for_is_said_again_ever_less_often_and_a_countdown_is_no_news(clock: Clock) -> None:
    rules = RoundRules(quorum=2, deadline_s=1e6)
    waits = [event("waiting", decide(rules, RoundFacts(admitted=1, age_s=second))[1]) for second in range(0, 86_400, 5)]
    said = times_said(clock, waits, every_s=5.0)
    assert said[0] == 0.0
    assert 86_400 / 600 <= len(said) < 160


def test_a_gateway_that_is_away_is_not_said_at_each_try_and_its_return_is(clock: Clock) -> None:
    lines = Lines(clock)
    assert lines.is_due(event("waiting", "for others"))
    assert [lines.is_due(event("away", f"try {number}")) for number in range(3)] == [True, False, False]
    clock.now_s = EVERY_S
    assert lines.is_due(event("away", "try 3"))
    assert lines.is_due(event("waiting", "for others"))
    assert not lines.is_due(event("waiting", "for others"))


def test_json_has_every_event_but_not_every_try(capsys: pytest.CaptureFixture[str]) -> None:
    with node_view(as_json=True) as report:
        for one in (*[event("training", done=0.5)] * 3, *[event("away")] * 3):
            report(one)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["phase"] for line in said] == ["training"] * 3 + ["away"]
    assert said[0].keys() == {"phase", "base_release", "message", "done", "accuracy", "score"}


def test_a_line_without_a_release_names_none(capsys: pytest.CaptureFixture[str]) -> None:
    with node_view(as_json=False) as report:
        report(NodeEvent(phase="connecting", base_release=None, message="trying [/x]"))
    assert capsys.readouterr().out == "connecting: trying [/x]\n"


def test_pauses_grow_only_where_days_may_pass(clock: Clock) -> None:
    steady, growing = Pace(clock=clock), Pace(grows=True, clock=clock)
    counts = [0, 0]
    for clock.now_s in range(3600):  # type: ignore[assignment]
        counts[0] += steady.is_due()
        counts[1] += growing.is_due()
    assert counts == [120, 10]
