import io
import json
import subprocess
import sys

import numpy as np
import pytest
from gated import contribute_all, gated_federation, lead_gated, lesson
from rich.console import Console
from tiny_rounds import contribute

from coldfuse.errors import ColdfuseError
from coldfuse.experiments.demo_gate import read_left_out
from coldfuse.experiments.demo_view import DemoView, ReleaseScores, Results
from coldfuse.experiments.demo_watch import DemoWatch, outcome


def test_a_line_is_printed_when_somebody_begins_something_new():
    console = Console(file=io.StringIO(), width=100)
    events = [("training", "0 %", 0.0), ("training", "50 %", 0.5), ("trained", "better", None), ("waiting", "", None)]
    lines = [
        json.dumps({"phase": phase, "base_release": 0, "message": message, "done": done})
        for phase, message, done in events
    ]
    with DemoView(console, ("alice",)) as view:
        view.follow_contributor("alice", lines).join()
        view.follow_aggregator(["round 1: opened\n"]).join()
    said = [line.split(maxsplit=1) for line in console.file.getvalue().splitlines()]
    assert said == [
        ["alice", "round 1: training, 0 %"], ["alice", "round 1: trained, better"], ["alice", "done"],
        ["aggregator", "round 1: opened"],
    ]  # fmt: skip


def test_a_contributor_that_failed_is_not_done():
    console = Console(file=io.StringIO(), width=100)
    with DemoView(console, ("alice",)) as view:
        lines = [
            json.dumps({"phase": "connecting", "base_release": None, "message": "trying [/x]", "done": None}),
            "no event",
        ]
        view.follow_contributor("alice", lines, lambda: "failed: no disk").join()
    said = [line.split(maxsplit=1) for line in console.file.getvalue().splitlines()]
    assert said == [["alice", "connecting, trying [/x]"], ["alice", "failed: no disk"]]


def test_on_a_terminal_lines_change_in_place():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with DemoView(console, ("alice",)) as view:
        view.show("alice", "training", done=0.5)
    said = console.file.getvalue()
    assert "starting" in said
    assert "training" in said


def results_of(unseen: float, **more: object) -> Results:
    base = ReleaseScores.of(0, "a" * 64, {"x": 0.5, "z": 0.1}, seen=["x"])
    last = ReleaseScores.of(1, "b" * 64, {"x": 0.62, "z": unseen}, seen=["x"])
    given = {"left_out": (), "ended": None} | more
    return Results(seen=("x",), unseen=("z",), rounds=(base, last), seed=0, base="b", model="m", seconds=1.0, **given)


def test_that_unseen_sets_got_worse_is_said_as_plainly_as_that_they_got_better():
    assert results_of(0.125).words() == [
        "mean of seen sets: 50.0 % with the base, 62.0 % with the last release: better by 12.0 points",
        "mean of unseen sets: 10.0 % with the base, 12.5 % with the last release: better by 2.5 points",
        "nobody was left out",
    ]  # fmt: skip
    worse = "mean of unseen sets: 10.0 % with the base, 9.0 % with the last release: WORSE by 1.0 points"
    assert results_of(0.09).words()[1] == worse
    assert results_of(0.1001).words()[1].endswith("no better")
    assert "ended after release 1: the gate: kept" in results_of(0.1, ended="the gate: kept").words()


def test_who_was_left_out_is_told_with_what_it_would_have_done(tmp_path):
    federation = gated_federation(tmp_path)
    lead_gated(federation)
    contribute_all(federation, {"ada": 0.3, "ben": 0.2, "cy": 0.25, "eve": -3.0})
    lead_gated(federation)
    (eve,) = read_left_out(federation)
    assert (eve.round, eve.contributor, eve.by) == (1, "eve", "gate")
    assert eve.reason.startswith("left out by the gate")
    assert eve.with_it["signs"] < -0.01
    assert eve.without_it["signs"] > 0
    results = results_of(0.1, left_out=(eve,))
    assert results.words()[2].startswith("round 1: eve was left out by the gate: the release would have changed")
    results.write(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["left_out"][0]["with_it"] == eve.with_it
    table = Console(file=io.StringIO(), width=200)
    table.print(results.left_out_table())
    (row,) = [line for line in table.file.getvalue().splitlines() if "eve" in line]
    assert [cell.strip() for cell in row.split("│")[1:4]] == ["1", "eve", "gate"]


def test_what_was_refused_before_anything_was_fused_is_no_work_of_the_gate(tmp_path):
    federation = gated_federation(tmp_path)
    lead_gated(federation)
    contribute(federation, "eve", {name: np.full_like(change, np.nan) for name, change in lesson(1.0).items()})
    lead_gated(federation)
    (eve,) = read_left_out(federation)
    assert (eve.by, eve.with_it, eve.without_it) == ("screening", None, None)


def ended(status: int) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({status})"], text=True)
    child.wait()
    return child


def test_whom_the_gate_has_left_out_the_operator_revokes_once_and_any_other_failure_is_one(tmp_path):
    dismissed = []
    children = {"ada": ended(0), "eve": ended(1)}
    watch = DemoWatch(children, tmp_path, harmful="eve", dismiss=lambda name, reason: dismissed.append((name, reason)))
    (tmp_path / "eve.log").write_text("coldfuse: eve: rejected: left out by the gate: it harms\n")
    watch()
    watch.wait(but="ada")
    assert dismissed == [("eve", "left out by the gate: it harms")]
    assert outcome("eve", children, tmp_path) == "left out by the gate: it harms"
    (tmp_path / "eve.log").write_text("coldfuse: no disk\n")
    with pytest.raises(ColdfuseError, match="eve ended with status 1: no disk"):
        watch()
    children["ada"] = ended(1)
    (tmp_path / "ada.log").write_text("coldfuse: ada: rejected: it harms\n")
    with pytest.raises(ColdfuseError, match="ada ended with status 1"):
        watch()


def test_results_have_the_means_of_seen_and_unseen_sets(tmp_path):
    base = ReleaseScores.of(0, "a" * 64, {"x": 0.5, "y": 0.7, "z": 0.1}, seen=["x", "y"])
    first = ReleaseScores.of(1, "b" * 64, {"x": 0.6, "y": 0.8, "z": 0.2}, seen=["x", "y"])
    results = Results(
        seen=("x", "y"),
        unseen=("z",),
        rounds=(base, first),
        seed=0,
        base="b",
        model="m",
        seconds=1.0,
        left_out=(),
        ended=None,
    )
    results.write(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["rounds"][1]["unseen_mean"] == 0.2
    table = Console(file=io.StringIO(), width=100)
    table.print(results.table())
    lines = [line.split("│")[1:-1] for line in table.file.getvalue().splitlines() if "mean of" in line]
    assert [[cell.strip() for cell in line] for line in lines] == [
        ["mean of seen", "60.0", "70.0"], ["mean of unseen", "10.0", "20.0"],
    ]  # fmt: skip
